//! `users list`.

use super::{CommandError, cloud::Target, note, say};
use crate::diagnostics::printable;
use serde_json::{Value, json};

/// Prints the SQL users, and says whether the settings' one is among them.
pub(super) async fn list(target: &Target, json: bool) -> Result<(), CommandError> {
    let users = target.cloud.users(target.id()).await?;
    let own = target.settings.iter().flat_map(|settings| settings.users().map(|user| user.name.as_str()));
    // SQL folds their case.
    let is_missing = |own: &&str| !users.iter().any(|user| user.name.eq_ignore_ascii_case(own));
    let missing = own.filter(is_missing).map(|own| {
        format!(
            "the settings' user \"{}\" is not among the users of {}: correct `user`, or make the user in the Cloud Console \
             (SQL Users)",
            printable(own),
            target.title()
        )
    });
    let missing: Vec<_> = missing.collect();
    if json {
        return target.say_json("users", json!(users), Value::Null, &missing);
    }
    say(&users.iter().map(|user| format!("{}\n", printable(&user.name))).collect::<String>())?;
    target.remark();
    missing.iter().for_each(|missing| note(missing));
    note(FORGOTTEN);
    Ok(())
}

const FORGOTTEN: &str = "a forgotten password cannot be looked up: an Org Admin or a Cluster Admin sets a new one in the Cloud \
    Console (the cluster's SQL Users page, the user's menu), which then goes where `password` of the settings says";
