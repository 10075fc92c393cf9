//! What a role may not read is unknown, and no failure.

use super::CloudError;

/// An answer, or that the key's role may not have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known<T> {
    /// What the API says.
    Is(T),
    /// The role does not suffice; one sentence that names the one that does.
    Unknown(String),
}

/// Turns a missing role into [`Known::Unknown`], for whoever goes on without the answer.
///
/// # Errors
/// Anything else that went wrong.
pub fn known<T>(answer: Result<T, CloudError>) -> Result<Known<T>, CloudError> {
    match answer {
        Ok(value) => Ok(Known::Is(value)),
        Err(error @ CloudError::RoleMissing { .. }) => Ok(Known::Unknown(error.to_string())),
        Err(error) => Err(error),
    }
}

impl<T> Known<T> {
    /// The answer, if there is one.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Is(value) => Some(value),
            Self::Unknown(_) => None,
        }
    }

    /// The answer as it was, owned.
    pub fn into_value(self) -> Option<T> {
        match self {
            Self::Is(value) => Some(value),
            Self::Unknown(_) => None,
        }
    }
}
