//! Reads JSON that may be anything: a value of another type than expected is no value.

use serde_json::{Map, Value};

/// One object.
#[derive(Clone, Copy)]
pub(super) struct Object<'v>(pub(super) &'v Map<String, Value>);

impl<'v> Object<'v> {
    pub(super) fn of(value: &'v Value) -> Option<Self> {
        value.as_object().map(Self)
    }

    /// A key in any case: the API capitalises some.
    fn get(self, key: &str) -> Option<&'v Value> {
        self.0
            .get(key)
            .or_else(|| self.0.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value))
    }

    /// A text, or a number as text; an empty one is none.
    pub(super) fn text(self, key: &str) -> Option<String> {
        match self.get(key)? {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// A whole number, which the API writes as text where it has 64 bits.
    pub(super) fn number(self, key: &str) -> Option<u64> {
        match self.get(key)? {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    pub(super) fn flag(self, key: &str) -> Option<bool> {
        match self.get(key)? {
            Value::Bool(flag) => Some(*flag),
            Value::String(text) => text.to_ascii_lowercase().parse().ok(),
            _ => None,
        }
    }

    pub(super) fn object(self, key: &str) -> Option<Object<'v>> {
        self.get(key).and_then(Self::of)
    }

    /// The list's values; nothing where there is none.
    pub(super) fn list(self, key: &str) -> &'v [Value] {
        self.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }
}
