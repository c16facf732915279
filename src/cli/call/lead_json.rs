//! JSON of a lead, for exports: what `leadsd call --json` prints of it.

use std::sync::LazyLock;

use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor};

use super::{
    contract::find_message,
    render::json_line,
    tree::{FieldNames, tree},
};
use crate::grpc::pb;

/// JSON of a lead on one line, without its end.
pub(in crate::cli) fn lead_json(lead: &pb::Lead) -> String {
    static LEAD: LazyLock<Option<MessageDescriptor>> =
        LazyLock::new(|| find_message("leadsd.v1.Lead"));
    let message = LEAD.clone().and_then(|descriptor| {
        DynamicMessage::decode(descriptor, lead.encode_to_vec().as_slice()).ok()
    });
    // The contract is compiled in, and a test encodes a lead with every field.
    message.map(|message| json_line(&tree(&message, FieldNames::Json))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_lead_has_the_field_names_of_json() {
        let version = pb::PropertyVersion { value: Some("HOT".into()), ..Default::default() };
        let lead = pb::Lead {
            id: "112".into(),
            properties: [("hs_lead_name".to_owned(), "\u{1f600} \"a\"\n\u{1b}".to_owned())].into(),
            property_history: [(
                "hs_lead_label".to_owned(),
                pb::PropertyHistory { versions: vec![version] },
            )]
            .into(),
            create_time: Some(prost_types::Timestamp { seconds: 0, nanos: 5_000_000 }),
            ..Default::default()
        };
        let line = lead_json(&lead);
        assert!(!line.contains(['\n', '\u{1b}']), "{line}");
        assert_eq!(
            serde_json::from_str::<Value>(&line).unwrap(),
            json!({
                "id": "112",
                "properties": {"hs_lead_name": "\u{1f600} \"a\"\n\u{1b}"},
                "propertyHistory": {"hs_lead_label": {"versions": [{"value": "HOT"}]}},
                "createTime": "1970-01-01T00:00:00.005Z",
            })
        );
    }
}
