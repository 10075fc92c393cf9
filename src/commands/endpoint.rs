//! `endpoint disable|enable|prefer`.

use super::{CommandError, block_on, daemon_of, say};
use crate::{control::Order, diagnostics::printable, settings::Inputs};

/// Has the daemon carry out an order for an endpoint.
///
/// # Errors
/// It was not taken, or nobody knows.
pub fn endpoint(inputs: &Inputs, order: &Order) -> Result<u8, CommandError> {
    let daemon = daemon_of(inputs)?;
    let taken = block_on(async { Ok(daemon.order(order).await?) })?;
    say(&format!("{}\n", printable(&taken.to_string())))?;
    Ok(0)
}
