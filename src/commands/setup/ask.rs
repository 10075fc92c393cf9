//! The questions of `setup`: a line that says why, what may be answered, and in brackets what an empty line means.
//! What does not fit is asked again.

use super::{
    choice::DATABASE,
    cluster::{Found, Region},
    password::PasswordAnswer,
    ways,
    wishes::{self, PATHS, PasswordAt, Regions},
};
use crate::{
    cloud::Known,
    commands::{CommandError, questions, whole_file::placed},
    diagnostics::{self, printable},
    secret::Secret,
    settings::{EndpointKind, Inputs, check_endpoint_name},
};
use std::path::Path;

/// Who logs in.
pub(super) async fn user(users: &Known<Vec<String>>) -> Result<String, CommandError> {
    // Not the one who may do everything.
    let mut fit = users.value().into_iter().flatten().filter(|user| wishes::name(user).is_ok());
    let first = fit.next();
    let listed = first.filter(|user| *user != "root").or_else(|| fit.next()).or(first);
    let usual = listed.map_or(USER, String::as_str);
    named("SQL user that every session logs in as, whatever an application says", users, usual).await
}

/// Where clients go that say nothing.
pub(super) async fn database(databases: &Known<Vec<String>>) -> Result<String, CommandError> {
    let has_usual = databases.value().is_none_or(|names| names.iter().any(|name| name == DATABASE));
    let listed = databases.value().and_then(|names| names.iter().find(|name| wishes::name(name).is_ok()));
    let usual = if has_usual { DATABASE } else { listed.map_or(DATABASE, String::as_str) };
    named("Database of applications that name none", databases, usual).await
}

async fn named(what: &str, known: &Known<Vec<String>>, usual: &str) -> Result<String, CommandError> {
    let those = match known {
        Known::Is(names) if !names.is_empty() => format!("; there are {}", listed(names)),
        _ => String::new(),
    };
    again(&format!("{what}{those}"), usual, wishes::name).await
}

/// Which regions serve, and in which order.
pub(super) async fn regions(found: &Found) -> Result<Regions, CommandError> {
    let names: Vec<_> = found.regions.iter().map(|region| region.name.clone()).collect();
    let question = format!(
        "Regions that may serve, by commas and in order, of {}; or nearest: all of them, the one that answers soonest \
         first",
        listed(&names)
    );
    again(&question, wishes::NEAREST, |said| {
        let regions = wishes::regions(said)?;
        ways::in_order(found, &regions).map(|_| regions)
    })
    .await
}

/// Over which paths.
pub(super) async fn path(chosen: &[&Region]) -> Result<Vec<EndpointKind>, CommandError> {
    let is_there = |kind: EndpointKind| chosen.iter().any(|region| region.host(kind).is_some());
    let there: Vec<_> = PATHS.iter().filter(|(_, kind)| is_there(*kind)).collect();
    if let [(_, only)] = there.as_slice() {
        return Ok(vec![*only]);
    }
    let options: Vec<_> = there.iter().map(|(word, kind)| (*word, about(*kind).to_owned())).collect();
    let usual = there.first().map_or("public", |(word, _)| word);
    choose("Paths into the cluster, by commas and in order", usual, &options, |said| {
        let kinds = wishes::path(said)?;
        ways::fault(chosen, &kinds).map_or(Ok(kinds), Err)
    })
    .await
}

fn about(kind: EndpointKind) -> &'static str {
    match kind {
        EndpointKind::Public => "over the internet: this machine's address must be on the allowlist",
        EndpointKind::Internal => "AWS PrivateLink, Azure Private Link or GCP VPC peering",
        EndpointKind::Psc => "GCP Private Service Connect, by an endpoint in your network",
        EndpointKind::Custom => "anything else",
    }
}

/// What goes in front of a region's host; nothing where that path is left out.
pub(super) async fn endpoint_name(region: &Region, may_be_left_out: bool) -> Result<Option<String>, CommandError> {
    let name = printable(&region.name);
    let question =
        format!("Name of the Private Service Connect endpoint in {name}, as your Google Cloud project has it");
    if !may_be_left_out {
        return again(&question, "", |said| check_endpoint_name(said).map(|()| Some(said.to_owned()))).await;
    }
    again(&format!("{question}; or none"), "none", |said| match said {
        "none" => Ok(None),
        said => check_endpoint_name(said).map(|()| Some(said.to_owned())),
    })
    .await
}

/// Where the password is. `file` is where a typed one goes, or which holds one already.
pub(super) async fn password(
    user: &str,
    usual_file: &Path,
    is_there: bool,
    inputs: &Inputs,
    fault: impl Fn(&PasswordAt) -> Option<String>,
) -> Result<PasswordAnswer, CommandError> {
    let (user, file) = (printable(user), printable(&usual_file.display().to_string()));
    let (what, usual) = if is_there { (IT_IS_THERE, "file") } else { (TYPE_IT, "type") };
    let mut options = vec![(usual, format!("{what} {file}"))];
    options.extend(ELSEWHERE.map(|(form, meaning)| (form, meaning.to_owned())));
    choose(&format!("Where the password of {user} is; the settings say where, never what"), usual, &options, |said| {
        let (word, rest) = said.split_once(' ').unwrap_or((said, ""));
        match word {
            "type" | "file" if word == usual && rest.is_empty() => {
                fault(&PasswordAt::File(usual_file.to_owned())).map_or(Ok(PasswordAnswer::Usual), Err)
            }
            "file" if !rest.trim().is_empty() => {
                let at = PasswordAt::File(placed(Path::new(rest.trim()), inputs));
                fault(&at).map_or(Ok(PasswordAnswer::At(at)), Err)
            }
            "env" => wishes::variable(rest.trim()).map(PasswordAnswer::At),
            "run" => wishes::command(rest).map(PasswordAnswer::At),
            _ => Err(format!("must be {usual}, file PATH, env NAME or run COMMAND")),
        }
    })
    .await
}

/// The password itself.
pub(super) async fn hidden(user: &str, file: &str) -> Result<Secret, CommandError> {
    let (user, file) = (printable(user), printable(file));
    let broken_rule = |typed: &[u8]| (typed.is_empty() || typed.contains(&0)).then_some("must not be empty");
    questions::hidden(&format!("\nPassword of {user} (not shown), for {file}"), broken_rule).await
}

/// Asks until the answer is one.
async fn again<T>(question: &str, usual: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<T, CommandError> {
    choose(question, usual, &[], read).await
}

/// The same, of what may be answered, each with its meaning.
async fn choose<T>(
    question: &str,
    usual: &str,
    options: &[(&str, String)],
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<T, CommandError> {
    let default = if usual.is_empty() { String::new() } else { format!(" [{}]", printable(usual)) };
    let width = options.iter().map(|(form, _)| form.len()).max().unwrap_or_default();
    let options: String = options.iter().map(|(form, meaning)| format!("\n  {form:width$}  {meaning}")).collect();
    loop {
        let said = questions::line(&format!("\n{question}{default}{options}")).await?;
        match read(if said.is_empty() { usual } else { &said }) {
            Ok(answer) => return Ok(answer),
            Err(rule) => diagnostics::plainly(&format!("  {}", printable(&rule))),
        }
    }
}

/// The first of them, for people.
pub(super) fn listed(names: &[String]) -> String {
    let mut shown: Vec<_> = names.iter().take(NAMES_MAX).map(|name| printable(name)).collect();
    if names.len() > NAMES_MAX {
        shown.push(format!("{} more", names.len().saturating_sub(NAMES_MAX)));
    }
    if shown.is_empty() { "none".to_owned() } else { shown.join(", ") }
}

/// Of a list in a sentence.
const NAMES_MAX: usize = 10;
/// Where nobody may know.
const USER: &str = "app";
const TYPE_IT: &str = "type it now; it is kept in";
const IT_IS_THERE: &str = "it is there already:";
const ELSEWHERE: [(&str, &str); 3] = [
    ("file PATH", "in another file"),
    ("env NAME", "in a variable of the daemon"),
    ("run COMMAND", "printed by a command, which is run without a shell"),
];
