//! Validation rules of properties: the endpoint that lists them, and the rules that writes have to follow.
//! HubSpot does not document the code of the error for a violation.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{
    AccessToken, READ,
    errors::Failure,
    http::{FakeRequest, FakeResponse},
};

/// Rule that values of a property have to follow.
#[derive(Debug, Clone)]
pub(super) struct ValidationRule {
    pub(super) kind: String,
    pub(super) arguments: Vec<String>,
}

// === impl ValidationRule ===

impl ValidationRule {
    /// Text of the error for a value. Rules of other types than these accept every value.
    pub(super) fn fault(&self, value: &str) -> Option<String> {
        let argument = self.arguments.first()?;
        let number = |text: &str| text.parse::<f64>().ok();
        let length = number(&value.chars().count().to_string());
        // An argument that is no number makes no rule.
        let is_less = |a: Option<f64>, b: Option<f64>| a.zip(b).is_some_and(|(a, b)| a < b);
        let bound = number(argument);
        let is_violated = match self.kind.as_str() {
            "MIN_LENGTH" => is_less(length, bound),
            "MAX_LENGTH" => is_less(bound, length),
            "MIN_NUMBER" => is_less(number(value), bound),
            "MAX_NUMBER" => is_less(bound, number(value)),
            "ALPHANUMERIC" if argument == "NUMERIC_ONLY" => !value.chars().all(char::is_numeric),
            _ => false,
        };
        is_violated.then(|| format!("{value} does not follow the rule {} {argument}", self.kind))
    }

    fn show(&self) -> Value {
        json!({"ruleType": self.kind, "ruleArguments": self.arguments,
               "shouldApplyNormalization": false})
    }
}

/// Serves the property validations API: the rules of all properties that have some. `all` has those of each
/// property by its name.
pub(super) fn list<'a>(
    all: impl Iterator<Item = (&'a String, &'a [ValidationRule])>,
    request: &FakeRequest,
    token: &AccessToken,
    scopes_on_top: bool,
) -> Result<FakeResponse, Failure> {
    if !token.scopes.iter().any(|own| own == READ) {
        return Err(Failure::missing_scope(READ, scopes_on_top));
    }
    if (request.method.as_str(), request.path.as_str()) != ("GET", "") {
        return Err(Failure::validation("no such call"));
    }
    let results: Vec<Value> = all
        .filter(|(_, rules)| !rules.is_empty())
        .map(|(name, rules)| {
            let rules: Vec<Value> = rules.iter().map(ValidationRule::show).collect();
            json!({"propertyName": name, "propertyValidationRules": rules})
        })
        .collect();
    Ok((StatusCode::OK, json!({ "results": results })))
}
