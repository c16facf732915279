//! Reads a value by its type, without the parts that the type rejects.
//!
//! The type itself says what it accepts: each member or element is tried alone, in its place. So no
//! structure needs a second definition. Only values that are rejected as a whole are read in this way.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::Number;

use super::{Elements, Losses, Members};

/// Maximum depth at which parts are left out; HubSpot's definitions have four levels. A deeper value is left
/// out as a whole, so that no body uses much of the stack.
const MAX_DEPTH: usize = 8;

/// Reads a value, without the innermost members and elements that `T` rejects, which are counted. `None` if
/// nothing is left: `T` rejects the value in any form.
pub(super) fn readable_part<T: DeserializeOwned>(raw: &[u8], losses: &mut Losses<'_>) -> Option<T> {
    if let Ok(value) = serde_json::from_slice(raw) {
        return Some(value);
    }
    let accepts = |text: &[u8]| serde_json::from_slice::<T>(text).is_ok();
    let kept = prune(raw, MAX_DEPTH, &accepts, losses)?;
    serde_json::from_slice(&kept).ok()
}

/// Text of the value without its unreadable parts. `accepts` is asked with the value in its place.
fn prune(
    raw: &[u8],
    depth: usize,
    accepts: &dyn Fn(&[u8]) -> bool,
    losses: &mut Losses<'_>,
) -> Option<Vec<u8>> {
    if accepts(raw) {
        return Some(raw.to_vec());
    }
    if let Some(other) = other_form(raw).filter(|other| accepts(other)) {
        return Some(other);
    }
    if depth == 0 {
        losses.count();
        return None;
    }
    if let Some(members) = Members::parse(raw).filter(|_| accepts(b"{}")) {
        // The last readable value of a name is kept.
        let mut kept = BTreeMap::new();
        for (name, value) in members {
            let member = |value: &[u8]| [name, b":", value].concat();
            let accepts = |value: &[u8]| accepts(&[b"{", &member(value)[..], b"}"].concat());
            kept.extend(
                prune(value, depth - 1, &accepts, losses).map(|kept| (name, member(&kept))),
            );
        }
        return Some([b"{", &Vec::from_iter(kept.into_values()).join(&b',')[..], b"}"].concat());
    }
    if let Some(elements) = Elements::parse(raw).filter(|_| accepts(b"[]")) {
        let kept: Vec<_> = elements
            .filter_map(|element| {
                let accepts = |value: &[u8]| accepts(&[b"[", value, b"]"].concat());
                prune(element, depth - 1, &accepts, losses)
            })
            .collect();
        return Some([b"[", &kept.join(&b',')[..], b"]"].concat());
    }
    losses.count();
    None
}

/// A number as text, or the value in a text: HubSpot sends numbers and booleans in both forms.
fn other_form(raw: &[u8]) -> Option<Vec<u8>> {
    if serde_json::from_slice::<Number>(raw).is_ok() {
        return Some([b"\"", raw, b"\""].concat());
    }
    Some(raw.strip_prefix(b"\"")?.strip_suffix(b"\"")?.to_vec())
}

#[cfg(test)]
mod tests;
