//! Bounds the memory that a JSON text takes once it is parsed. Parsed values take up to a hundred times
//! the bytes of a text such as `[0,0,0]`.

/// Maximum number of values in a JSON text of which a service reads a few. Parsed, they take some MiB.
pub const MAX_VALUES: usize = 100_000;

/// True if a JSON text has at most about `max` values. Commas and brackets inside strings count as well.
pub fn has_at_most(text: &[u8], max: usize) -> bool {
    text.iter().filter(|byte| matches!(byte, b',' | b'[' | b'{')).take(max + 1).count() <= max
}

#[cfg(test)]
mod tests {
    use super::has_at_most;

    #[test]
    fn values_are_counted_by_their_separators() {
        assert!(has_at_most(br#"{"a":[1,2,3],"b":{}}"#, 6));
        assert!(!has_at_most(br#"{"a":[1,2,3],"b":{}}"#, 5));
        assert!(has_at_most(b"7", 0));
        assert!(!has_at_most("[".repeat(4_000_000).as_bytes(), super::MAX_VALUES));
    }
}
