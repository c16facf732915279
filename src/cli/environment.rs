//! Environment variables of the process. No other module reads them.

/// Environment variables whose name and value are valid UTF-8.
pub(super) fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}
