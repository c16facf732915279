//! Malformed page tokens: mutated tokens of the service and arbitrary texts.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use leadsd::grpc::pb;
use prost::Message as _;

use crate::{
    random::Random,
    requests,
    run::Run,
    setup::{Peers, Service, framed},
};

const LIST: &str = "/leadsd.v1.LeadsService/ListLeads";
const SEARCH: &str = "/leadsd.v1.LeadsService/SearchLeads";

/// Code INVALID_ARGUMENT.
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

fn malformed_token(random: &mut Random, tokens: &[(&str, String)]) -> String {
    let token = &random.pick(tokens).1;
    match random.below(6) {
        0 => random.text(),
        1 => URL_SAFE_NO_PAD.encode(random.bytes(60)),
        2 => random.mutated(token),
        3 => token.repeat(random.below(400)),
        4 => {
            let mut inside = URL_SAFE_NO_PAD.decode(token).unwrap();
            random.mutate(&mut inside);
            URL_SAFE_NO_PAD.encode(inside)
        }
        _ => token.clone(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn page_tokens() {
    let mut run = Run::start("page_tokens").await;
    let peers = Peers::start().await;
    let service = requests::service(&peers).await;
    let mut tokens = Vec::new();
    for path in [LIST, SEARCH] {
        let (code, next) = page(&service, path, String::new()).await;
        assert!(code == Some(0) && !next.is_empty(), "{path}: there is a second page");
        tokens.push((path, next));
    }
    let (mut taken, mut refused) = (0, 0);
    while let Some(mut random) = run.next() {
        let token = malformed_token(&mut random, &tokens);
        let path = *random.pick(&[LIST, SEARCH]);
        let issued = token.is_empty() || tokens.contains(&(path, token.clone()));
        let (code, _) = run.in_time(page(&service, path, token.clone())).await;
        // The service accepts only tokens that it issued for the same request.
        let fine = if issued { code == Some(0) } else { code == REFUSED };
        assert!(fine, "{}", run.failure(&format!("{path} {token:?}: {code:?}")));
        if issued { taken += 1 } else { refused += 1 }
    }
    println!("page_tokens: {taken} accepted, {refused} rejected");
    service.wait_until_idle().await;
}
