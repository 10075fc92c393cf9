//! Where the user's password is, and the one that is typed. Owns the rules for a file that is to hold one; reads no
//! password that it was not given.

use super::{
    ask,
    cluster::Found,
    outcome::quoted,
    places,
    wishes::{PasswordAt, Wishes},
};
use crate::{
    commands::{CommandError, note},
    secret::Secret,
};
use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};

/// What the settings say of it.
pub(super) struct Password {
    pub(super) at: PasswordAt,
    /// What is to be written there.
    pub(super) typed: Option<Secret>,
}

/// What was answered.
pub(super) enum PasswordAnswer {
    /// The first choice that was offered.
    Usual,
    /// Elsewhere.
    At(PasswordAt),
}

/// Asks where it is and what it is, unless that is known.
pub(super) async fn settle(
    wishes: &Wishes<'_>,
    found: &Found,
    user: &str,
    can_ask: bool,
) -> Result<Password, CommandError> {
    let at = match &wishes.password {
        Some(at) => at.clone(),
        None => asked(wishes, found, user).await?,
    };
    let PasswordAt::File(file) = &at else { return Ok(Password { at, typed: None }) };
    let is_there = file.exists();
    if is_there {
        warn_of_readers(file);
        return Ok(Password { at, typed: None });
    }
    if !can_ask {
        // It was there a moment ago.
        return Err(CommandError::Said(2, gone(file)));
    }
    let typed = Some(ask::hidden(user, &file.display().to_string()).await?);
    Ok(Password { at, typed })
}

async fn asked(wishes: &Wishes<'_>, found: &Found, user: &str) -> Result<PasswordAt, CommandError> {
    let usual = wishes.file.with_file_name(format!("{}.pw", found.name));
    let ca = places::ca_file(&wishes.file, found.name.as_str());
    let fault = |at: &PasswordAt| fault(at, true).or_else(|| places::clash(&wishes.file, Some(&ca), Some(at)));
    let said = ask::password(user, &usual, usual.exists(), wishes.inputs, fault).await?;
    Ok(match said {
        PasswordAnswer::Usual => PasswordAt::File(usual),
        PasswordAnswer::At(at) => at,
    })
}

/// Why a source that was named cannot be the one. `can_type`: a file that is not there is made.
pub(super) fn fault(at: &PasswordAt, can_type: bool) -> Option<String> {
    let PasswordAt::File(file) = at else { return None };
    let shown = file.display();
    match fs::metadata(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && can_type => None,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(gone(file)),
        Err(error) => Some(format!("{shown} cannot be looked at: {error}")),
        Ok(metadata) if !metadata.is_file() => Some(format!("{shown} is not a regular file")),
        Ok(metadata) if metadata.len() == 0 => Some(format!("{shown} is empty")),
        Ok(_) => None,
    }
}

fn gone(file: &Path) -> String {
    let shown = file.display();
    format!("{shown} does not exist; put the user's password there, in a file that only you can read")
}

fn warn_of_readers(file: &Path) {
    let can_others = fs::metadata(file).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0);
    if can_others {
        note(&format!("other users can read the password in {}; chmod 600 {}", file.display(), quoted(file)));
    }
}
