//! Size of a status in response headers, as HTTP/2 counts it: name, value and 32 bytes for each header.
//! The message is percent-encoded, and the details are in base64.
//!
//! gRPC's C core, which Python, Ruby and others use, rejects headers of more than 8 KiB at random. The
//! client then reports RESOURCE_EXHAUSTED instead of the status.

use std::borrow::Cow;

use tonic::Status;

/// Maximum size of all headers of a response without a body.
const MAX_HEADER_LIST: usize = 8_192;

/// Size of all other headers: `:status`, `content-type`, `date`, `x-request-id` of 128 bytes,
/// `leadsd-quota-cost`, `grpc-accept-encoding`.
const OTHER_HEADERS: usize = 576;

/// Maximum size of the headers of a status.
pub(super) const MAX_STATUS: usize = MAX_HEADER_LIST - OTHER_HEADERS;

/// Maximum size of a message after percent-encoding. The details contain it again, so that both fit.
pub(super) const MAX_MESSAGE: usize = 1_536;

/// Overhead of a header, by RFC 9113.
const HEADER: usize = 32;

/// Mark at the end of a text that was cut.
const ELLIPSIS: char = '…';

/// Size of the headers of a status.
pub(super) fn status_size(status: &Status) -> usize {
    let code = "grpc-status".len() + 2 + HEADER;
    let message: usize = status.message().chars().map(encoded_message_size).sum();
    let message = "grpc-message".len() + message + HEADER;
    // Base64 without padding.
    let details = (status.details().len() * 4).div_ceil(3);
    let details = "grpc-status-details-bin".len() + details + HEADER;
    code + message + details
}

/// Size of a character in `grpc-message`: one byte, or three for each percent-encoded byte.
pub(super) fn encoded_message_size(char: char) -> usize {
    match char {
        ' ' | '"' | '#' | '%' | '<' | '>' | '`' | '?' | '{' | '}' => 3,
        '!'..='~' => 1,
        _ => 3 * char.len_utf8(),
    }
}

/// Cuts a text to `max`, in the unit in which `size` counts a character.
pub(super) fn cut(text: &str, max: usize, size: impl Fn(char) -> usize) -> Cow<'_, str> {
    // Length of the text that fits beside the ellipsis.
    let (mut fits, mut total) = (0, 0);
    for (at, char) in text.char_indices() {
        total += size(char);
        if total + size(ELLIPSIS) <= max {
            fits = at + char.len_utf8();
        }
        if total > max {
            return Cow::Owned(format!("{}{ELLIPSIS}", &text[..fits]));
        }
    }
    Cow::Borrowed(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters_to_its_maximum() {
        let cut = |text, max| cut(text, max, char::len_utf8).into_owned();
        assert_eq!(cut("", 4), "");
        assert_eq!(cut("abcd", 4), "abcd");
        assert_eq!(cut("abcde", 4), "a…");
        assert_eq!(cut("ééé", 6), "ééé");
        assert_eq!(cut("éééé", 6), "é…");
        assert_eq!(cut("eéé漢字", 8), "eéé…");
    }

    #[test]
    fn a_message_is_counted_after_percent_encoding() {
        let encoded = |text: &str| text.chars().map(encoded_message_size).sum::<usize>();
        assert_eq!(encoded("a/b-c"), 5);
        assert_eq!(encoded("a b%"), 8);
        assert_eq!(encoded("漢\n"), 12);
        let message = "漢字 100% {x} \u{7f}~\t!";
        assert_eq!(
            cut(&message.repeat(200), MAX_MESSAGE, encoded_message_size).chars().last(),
            Some('…')
        );
    }
}
