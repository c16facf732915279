//! Page tokens: some of the service's own, changed, and some that never were any.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use leadsd::grpc::pb;
use prost::Message as _;

use crate::{
    dice::Dice,
    requests,
    run::Run,
    world::{Peers, Service, framed},
};

const LIST: &str = "/leadsd.v1.LeadsService/ListLeads";
const SEARCH: &str = "/leadsd.v1.LeadsService/SearchLeads";

/// INVALID_ARGUMENT
const REFUSED: Option<i32> = Some(3);

async fn page(service: &Service, path: &str, token: String) -> (Option<i32>, String) {
    let (page_size, page_token) = (5, token);
    let message = if path == LIST {
        pb::ListLeadsRequest { page_size, page_token, ..Default::default() }.encode_to_vec()
    } else {
        pb::SearchLeadsRequest { page_size, page_token, ..Default::default() }.encode_to_vec()
    };
    let answer = service.call(path, &[], framed(&message)).await.expect("an answer");
    let message = answer.body.get(5..).unwrap_or_default();
    let next = if path == LIST {
        pb::ListLeadsResponse::decode(message).unwrap().next_page_token
    } else {
        pb::SearchLeadsResponse::decode(message).unwrap().next_page_token
    };
    (answer.code, next)
}

fn other(dice: &mut Dice, tokens: &[(&str, String)]) -> String {
    let token = &dice.pick(tokens).1;
    match dice.below(6) {
        0 => dice.text(),
        1 => URL_SAFE_NO_PAD.encode(dice.bytes(60)),
        2 => dice.spoilt(token),
        3 => token.repeat(dice.below(400)),
        4 => {
            let mut inside = URL_SAFE_NO_PAD.decode(token).unwrap();
            dice.spoil(&mut inside);
            URL_SAFE_NO_PAD.encode(inside)
        }
        _ => token.clone(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn page_tokens() {
    let mut run = Run::of("page_tokens").await;
    let peers = Peers::start().await;
    let service = requests::service(&peers).await;
    let mut tokens = Vec::new();
    for path in [LIST, SEARCH] {
        let (code, next) = page(&service, path, String::new()).await;
        assert!(code == Some(0) && !next.is_empty(), "{path}: there is a second page");
        tokens.push((path, next));
    }
    let (mut taken, mut refused) = (0, 0);
    while let Some(mut dice) = run.next() {
        let token = other(&mut dice, &tokens);
        let path = *dice.pick(&[LIST, SEARCH]);
        let ours = token.is_empty() || tokens.contains(&(path, token.clone()));
        let (code, _) = run.in_time(page(&service, path, token.clone())).await;
        // What the service did not give out for this very request is never taken for a place.
        let fine = if ours { code == Some(0) } else { code == REFUSED };
        assert!(fine, "{}", run.blame(&format!("{path} {token:?}: {code:?}")));
        if ours { taken += 1 } else { refused += 1 }
    }
    println!("page_tokens: {taken} taken, {refused} refused");
    service.is_at_rest().await;
}
