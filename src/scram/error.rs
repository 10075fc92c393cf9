//! Why a SCRAM exchange failed.

use std::{error::Error, fmt};

/// Why a SCRAM exchange failed. Carries no secret and, of the peer's text, only a bounded server error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScramError {
    /// The peer's message breaks the grammar; says which part.
    Malformed(&'static str),
    /// The peer asks for an extension that must be understood (`m=`).
    MandatoryExtension,
    /// The server's nonce does not continue ours: an answer to somebody else's login.
    Nonce,
    /// The server asks for too few rounds to be safe, or for so many that it looks like an attack.
    Iterations(u32),
    /// The server refused the proof, in its own word, as `invalid-proof`.
    Refused(String),
    /// The server did not prove that it knows the password, so it may not be the server.
    ServerSignature,
    /// The client's proof is wrong: wrong password.
    WrongPassword,
    /// The client asks for channel binding, which was not offered.
    ChannelBindingNotOffered,
    /// The client says something else about channel binding than in its first message.
    ChannelBindingChanged,
    /// The client wants to act as somebody else.
    AuthorizationIdentity,
    /// A text that begins as a SCRAM-SHA-256 verifier is none.
    Verifier(&'static str),
    /// The system gave no random bytes, or the daemon is stopping.
    Unavailable,
}

impl fmt::Display for ScramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(part) => write!(f, "malformed SCRAM message: {part}"),
            Self::MandatoryExtension => f.write_str("the peer requires a SCRAM extension that is not known here"),
            Self::Nonce => f.write_str("the server's SCRAM nonce does not begin with ours"),
            Self::Iterations(asked) => write!(
                f,
                "the server asks for {asked} SCRAM iterations; {} to {} are accepted",
                super::crypto::ITERATIONS_MIN,
                super::crypto::ITERATIONS_MAX
            ),
            Self::Refused(text) => write!(f, "the server refused the SCRAM login: {text}"),
            Self::ServerSignature => {
                f.write_str("the server could not prove that it knows the password; it may not be the real one")
            }
            Self::WrongPassword => f.write_str("the password is wrong"),
            Self::ChannelBindingNotOffered => f.write_str("the client asks for channel binding, which was not offered"),
            Self::ChannelBindingChanged => {
                f.write_str("the client's two SCRAM messages disagree about channel binding")
            }
            Self::AuthorizationIdentity => {
                f.write_str("the client asks for an authorization identity, which is not supported")
            }
            Self::Verifier(part) => write!(
                f,
                "the text begins as a SCRAM-SHA-256 verifier, but {part}; its form is SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY"
            ),
            Self::Unavailable => f.write_str("SCRAM keys could not be made; is the daemon stopping?"),
        }
    }
}

impl Error for ScramError {}
