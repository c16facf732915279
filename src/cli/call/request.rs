//! Requests of a call: JSON from an argument, a file or standard input, and fields from arguments.

use std::{
    fs::File,
    io::{self, Read},
    path::PathBuf,
};

use prost::{Message as _, bytes::Bytes};
use prost_reflect::{DynamicMessage, MethodDescriptor};
use serde_json::{Deserializer, Value as Json};
use tokio::task::{JoinError, spawn_blocking};

use super::{
    assign::Assignments,
    from_json::{InvalidField, set_object},
};

/// Maximum size of JSON in bytes. A batch of 10,000 inputs has some MiB.
const MAX_JSON: u64 = 64 << 20;

/// Error of a request that cannot be built; nothing was sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum InvalidRequest {
    #[error(transparent)]
    Field(#[from] InvalidField),
    #[error("cannot read {origin}: {source}")]
    Read { origin: String, source: io::Error },
    #[error("{origin} exceeds {MAX_JSON} bytes")]
    TooLong { origin: String },
    #[error("{origin} is no valid JSON: {source}")]
    Json { origin: String, source: serde_json::Error },
    #[error("{origin} must be a JSON object with the fields of {message}")]
    NoObject { origin: String, message: String },
    #[error("{origin} has {count} JSON objects, and {method} takes one request")]
    SeveralRequests { origin: String, count: usize, method: String },
    #[error("JSON must be the first argument after the method, and only once: {0:?}")]
    JsonNotFirst(String),
}

/// Source of the JSON of a request.
#[derive(Debug, PartialEq, Eq)]
enum JsonSource {
    Argument(String),
    File(PathBuf),
    Stdin,
}

// === impl JsonSource ===

impl JsonSource {
    /// The source that an argument names; `None` for `FIELD=VALUE`.
    fn from_argument(argument: &str) -> Option<Self> {
        if argument == "-" {
            return Some(Self::Stdin);
        }
        if let Some(file) = argument.strip_prefix('@') {
            return Some(Self::File(file.into()));
        }
        let is_json = argument.trim_start().starts_with(['{', '[']);
        is_json.then(|| Self::Argument(argument.to_owned()))
    }

    fn origin(&self) -> String {
        match self {
            Self::Argument(_) => "the request".to_owned(),
            Self::File(file) => file.display().to_string(),
            Self::Stdin => "standard input".to_owned(),
        }
    }

    fn text(self) -> Result<String, InvalidRequest> {
        let origin = self.origin();
        let read = match self {
            Self::Argument(text) => return Ok(text),
            Self::File(file) => File::open(file).and_then(bounded),
            Self::Stdin => bounded(io::stdin().lock()),
        };
        match read {
            Ok(Some(text)) => Ok(text),
            Ok(None) => Err(InvalidRequest::TooLong { origin }),
            Err(source) => Err(InvalidRequest::Read { origin, source }),
        }
    }
}

/// Reads text; `None` if it exceeds the maximum.
fn bounded(from: impl Read) -> io::Result<Option<String>> {
    let mut text = String::new();
    from.take(MAX_JSON + 1).read_to_string(&mut text)?;
    Ok((text.len() as u64 <= MAX_JSON).then_some(text))
}

/// True if these arguments read standard input.
pub(super) fn reads_stdin(arguments: &[String]) -> bool {
    arguments.iter().any(|argument| argument == "-")
}

/// Builds the encoded requests of a call: one, or any number if the method takes a stream. Waits for
/// standard input.
pub(super) async fn requests(
    method: MethodDescriptor,
    arguments: Vec<String>,
) -> Result<Vec<Bytes>, InvalidRequest> {
    // A thread that waits for standard input must not keep signals from ending the command.
    let built = spawn_blocking(move || build(&method, &arguments)).await;
    built.unwrap_or_else(|error: JoinError| {
        let source = io::Error::other(error);
        Err(InvalidRequest::Read { origin: "the request".to_owned(), source })
    })
}

fn build(method: &MethodDescriptor, arguments: &[String]) -> Result<Vec<Bytes>, InvalidRequest> {
    let (json, fields) = match arguments.split_first() {
        Some((first, fields)) => match JsonSource::from_argument(first) {
            Some(source) => (Some(source), fields),
            None => (None, arguments),
        },
        None => (None, arguments),
    };
    if let Some(late) = fields.iter().find(|field| JsonSource::from_argument(field).is_some()) {
        return Err(InvalidRequest::JsonNotFirst(late.clone()));
    }
    let mut requests = match json {
        Some(source) => from_json(method, source)?,
        None => vec![DynamicMessage::new(method.input())],
    };
    for request in &mut requests {
        let mut assignments = Assignments::new(request);
        for field in fields {
            assignments.assign(field)?;
        }
    }
    Ok(requests.iter().map(|request| request.encode_to_vec().into()).collect())
}

fn from_json(
    method: &MethodDescriptor,
    source: JsonSource,
) -> Result<Vec<DynamicMessage>, InvalidRequest> {
    let origin = source.origin();
    let text = source.text()?;
    let mut requests = Vec::new();
    for value in Deserializer::from_str(&text).into_iter::<Json>() {
        let value =
            value.map_err(|source| InvalidRequest::Json { origin: origin.clone(), source })?;
        let Json::Object(object) = &value else {
            let message = method.input().name().to_owned();
            return Err(InvalidRequest::NoObject { origin, message });
        };
        let mut request = DynamicMessage::new(method.input());
        set_object(&mut request, object, "")?;
        requests.push(request);
    }
    match requests.len() {
        1 => {}
        _ if method.is_client_streaming() => {}
        0 => {
            let message = method.input().name().to_owned();
            return Err(InvalidRequest::NoObject { origin, message });
        }
        count => {
            let method = method.name().to_owned();
            return Err(InvalidRequest::SeveralRequests { origin, count, method });
        }
    }
    Ok(requests)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::call::contract::find_method, grpc::pb};

    fn built(method: &str, arguments: &[&str]) -> Result<Vec<Bytes>, String> {
        let arguments: Vec<_> = arguments.iter().map(|text| (*text).to_owned()).collect();
        build(&find_method(method).unwrap(), &arguments).map_err(|error| error.to_string())
    }

    #[test]
    fn fields_are_set_on_top_of_json() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("request.json");
        std::fs::write(&file, "{\"id\": \"1\", \"properties\": [\"a\"]}\n").unwrap();
        let from_file = format!("@{}", file.display());
        for json in [r#" {"id": "1", "properties": ["a"]}"#, &from_file] {
            let requests = built("GetLead", &[json, "id=2", "properties=b"]).unwrap();
            let request = pb::GetLeadRequest::decode(&*requests[0]).unwrap();
            assert_eq!((request.id.as_str(), requests.len()), ("2", 1));
            assert_eq!(request.properties, ["a", "b"]);
        }
        assert_eq!(built("GetQuota", &[]).unwrap(), [Bytes::new()]);
    }

    #[test]
    fn a_stream_takes_any_number_of_requests() {
        let method = "grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
        for (json, expected) in [("{} {}\n{}", 3), ("{}", 1), ("[]", 0)] {
            let found = built(method, &[json]).map(|requests| requests.len()).unwrap_or_default();
            assert_eq!(found, expected, "{json}");
        }
    }

    #[test]
    fn errors_name_the_origin() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &[u8]| {
            let file = folder.path().join(name);
            std::fs::write(&file, text).unwrap();
            format!("@{}", file.display())
        };
        let (empty, broken, binary) =
            (file("empty", b""), file("broken", b"{\"id\": "), file("binary", b"\xff"));
        for (arguments, expected) in [
            (&["{\"id\": }"][..], "the request is no valid JSON: expected value at line 1"),
            (&["[]"], "the request must be a JSON object with the fields of GetLeadRequest"),
            (&["{} {}"], "the request has 2 JSON objects, and GetLead takes one request"),
            (&["{\"i\": 1}"], "i: is no field of GetLeadRequest"),
            (&["id=1", "{}"], "JSON must be the first argument after the method"),
            (&["{}", "-"], "JSON must be the first argument after the method"),
            (&["@/nowhere/x"], "cannot read /nowhere/x: No such file"),
            (&["@/"], "cannot read /: Is a directory"),
            (&[&empty], &format!("{} must be a JSON object", &empty[1..])),
            (&[&broken], &format!("{} is no valid JSON: EOF", &broken[1..])),
            (&[&binary], &format!("cannot read {}: stream did not contain", &binary[1..])),
        ] {
            let error = built("GetLead", arguments).unwrap_err();
            assert!(error.starts_with(expected), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn longer_text_than_the_maximum_is_not_read() {
        assert_eq!(bounded(io::repeat(b' ')).unwrap(), None);
    }
}
