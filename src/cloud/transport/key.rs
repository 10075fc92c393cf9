//! The key as it is sent, and as it is looked for in what comes back.

use crate::{cloud::CloudError, secret::Secret};
use reqwest::header::HeaderValue;
use serde_json::Value;
use zeroize::Zeroizing;

/// A key that a header can carry.
pub(super) struct Key {
    secret: Secret,
    header: HeaderValue,
}

impl Key {
    pub(super) fn new(secret: Secret) -> Result<Self, CloudError> {
        if secret.expose().is_empty() || !secret.expose().iter().all(u8::is_ascii_graphic) {
            return Err(CloudError::BadKey);
        }
        let mut text = Zeroizing::new(b"Bearer ".to_vec());
        text.extend_from_slice(secret.expose());
        let mut header = HeaderValue::from_bytes(&text).ok().ok_or(CloudError::BadKey)?;
        header.set_sensitive(true);
        Ok(Self { secret, header })
    }

    pub(super) fn secret(&self) -> &Secret {
        &self.secret
    }

    pub(super) fn header(&self) -> HeaderValue {
        self.header.clone()
    }

    /// Whether it stands there, in any case: words of the API are put into capitals here.
    pub(super) fn is_in(&self, text: &[u8]) -> bool {
        let key = self.secret.expose();
        text.windows(key.len()).any(|part| part.eq_ignore_ascii_case(key))
    }

    /// Whether it stands in a text or a name of it. No deeper than the parser goes.
    pub(super) fn is_in_json(&self, value: &Value) -> bool {
        match value {
            Value::String(text) => self.is_in(text.as_bytes()),
            Value::Array(values) => values.iter().any(|value| self.is_in_json(value)),
            Value::Object(pairs) => {
                pairs.iter().any(|(name, value)| self.is_in(name.as_bytes()) || self.is_in_json(value))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }
}
