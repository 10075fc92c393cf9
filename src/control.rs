//! What a running daemon is asked and told: the words that its admin address takes and answers, and the client
//! by which the commands send them. Knows neither what an order does nor who may give one; opens connections
//! to the daemon's own admin address and to nothing else.

mod client;
mod error;
mod orders;
pub mod status;
mod whole;

pub use self::{
    client::{Answer, Client, Question},
    error::ControlError,
    orders::{Order, SPANS, Taken, USUAL_SPAN, Verb},
    whole::{News, Outcome, Stopped, Stopping},
};
