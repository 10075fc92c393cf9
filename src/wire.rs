//! The Postgres wire protocol as bytes: what peers send is parsed here, what they read is built here.
//!
//! Pure: no I/O, no clock, none of our other modules but the names of states. Every parser is
//! total: any bytes give a value or an error, never a panic, and nothing is read past a stated length.
//! Protocol facts: PostgreSQL's documentation, chapter "Frontend/Backend Protocol", 53.2, 53.7 and 53.8.

pub mod answer;
pub mod cancel_key;
pub mod conversation;
pub mod error;
pub mod first_message;
pub mod frames;
pub mod messages;
pub mod options;
pub mod parameters;
pub mod reported;

pub use answer::Answer;
pub use cancel_key::CancelKey;
pub use conversation::Conversation;
pub use error::{ClientError, ServerError, SqlState};
pub use first_message::FirstMessage;
pub use parameters::StartupParameters;
