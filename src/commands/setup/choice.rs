//! What the settings are to say: what the flags said, what was answered at the terminal, and what goes without
//! saying. Where nobody can be asked, everything that is wrong or missing is told at once.

use super::{
    ask,
    cluster::{Found, Region},
    password::{self, Password},
    ways::{self, Way},
    wishes::{Faults, Regions, Wishes},
};
use crate::{
    cloud::Known,
    commands::{CommandError, note},
    diagnostics::printable,
    settings::{EndpointKind, same_region},
};

/// All of it.
pub(super) struct Choice {
    pub(super) user: String,
    pub(super) database: String,
    /// By the names that SQL shows.
    pub(super) regions: Regions,
    pub(super) kinds: Vec<EndpointKind>,
    /// Endpoints in use, in order.
    pub(super) ways: Vec<Way>,
    /// Those that are not.
    pub(super) spare: Vec<Way>,
    pub(super) password: Password,
}

impl Choice {
    /// Asks for what is missing, where there is somebody to ask.
    pub(super) async fn settle(wishes: &Wishes<'_>, found: &Found, can_ask: bool) -> Result<Self, CommandError> {
        let mut faults = faults_of(wishes, found, can_ask);
        if !can_ask {
            faults.extend(missing(wishes, found));
        }
        Faults(faults).none()?;

        let user = match &wishes.user {
            Some(user) => user.clone(),
            None => ask::user(&found.users).await?,
        };
        warn_of_stranger("SQL user", &user, &found.users);
        let database = match &wishes.database {
            Some(database) => database.clone(),
            None if can_ask => ask::database(&found.databases).await?,
            None => DATABASE.to_owned(),
        };
        warn_of_stranger("database", &database, &found.databases);
        let regions = match &wishes.regions {
            Some(regions) => regions.clone(),
            None if can_ask && found.regions.len() > 1 => ask::regions(found).await?,
            None => usual_regions(found),
        };
        let chosen = ways::in_order(found, &regions).map_err(|rule| CommandError::Said(2, rule))?;
        let kinds = match &wishes.path {
            Some(kinds) => kinds.clone(),
            None if can_ask && wishes.psc.is_empty() => ask::path(&chosen).await?,
            None => usual_path(wishes),
        };
        if let Some(rule) = ways::fault(&chosen, &kinds) {
            return Err(CommandError::Said(2, rule));
        }
        let psc = endpoint_names(wishes, &chosen, &kinds, can_ask).await?;
        let (ways, spare) = ways::ways(found, &chosen, &kinds, &psc);
        note_lost(&chosen, &ways)?;
        let password = password::settle(wishes, found, &user, can_ask).await?;
        let regions = match regions {
            Regions::Nearest => Regions::Nearest,
            Regions::These(_) => Regions::These(chosen.iter().map(|region| region.name.clone()).collect()),
        };
        Ok(Self { user, database, regions, kinds, ways, spare, password })
    }
}

/// What is wrong whatever would be answered.
fn faults_of(wishes: &Wishes<'_>, found: &Found, can_ask: bool) -> Vec<String> {
    let mut faults = Vec::new();
    let regions = wishes.regions.clone().unwrap_or(Regions::Nearest);
    match ways::in_order(found, &regions) {
        Err(rule) => faults.push(format!("--region: {rule}")),
        Ok(chosen) => {
            let kinds = wishes.path.clone().or_else(|| (!can_ask).then(|| usual_path(wishes))).unwrap_or_default();
            // Regions that are still to be answered may make it good.
            let is_open = can_ask && wishes.regions.is_none();
            if !is_open
                && !kinds.is_empty()
                && let Some(rule) = ways::fault(&chosen, &kinds)
            {
                faults.push(format!("--path: {rule}"));
            }
        }
    }
    for (region, _) in &wishes.psc {
        if let Err(rule) = ways::region(found, region) {
            faults.push(format!("--psc-endpoint: {rule}"));
        }
    }
    if wishes.path.as_ref().is_some_and(|kinds| !kinds.contains(&EndpointKind::Psc)) && !wishes.psc.is_empty() {
        faults.push("--psc-endpoint: --path does not have psc".to_owned());
    }
    let of_password = wishes.password.as_ref().and_then(|at| password::fault(at, can_ask));
    faults.extend(of_password.map(|rule| format!("--password-file: {rule}")));
    faults
}

/// What must be said where nobody can be asked.
fn missing(wishes: &Wishes<'_>, found: &Found) -> Vec<String> {
    let mut missing = Vec::new();
    if wishes.user.is_none() {
        let hint = match &found.users {
            Known::Is(users) if !users.is_empty() => format!(" (the cluster has {})", ask::listed(users)),
            _ => String::new(),
        };
        missing.push(format!("--user is missing, the SQL user that every session logs in as{hint}"));
    }
    if wishes.password.is_none() {
        missing.push(
            "--password-file, --password-env or --password-command is missing: where the user's password is".to_owned(),
        );
    }
    let kinds = wishes.path.clone().unwrap_or_else(|| usual_path(wishes));
    let regions = wishes.regions.clone().unwrap_or_else(|| usual_regions(found));
    for region in nameless(wishes, &ways::in_order(found, &regions).unwrap_or_default(), &kinds) {
        // Another way leads there, so the flag may have been left out on purpose.
        if wishes.psc.is_empty() || !kinds.iter().any(|kind| *kind != EndpointKind::Psc && region.host(*kind).is_some())
        {
            missing.push(format!(
                "--psc-endpoint {}=NAME is missing, what the endpoint is called in your network",
                printable(&region.name)
            ));
        }
    }
    if !missing.is_empty() {
        missing.insert(0, "there is no terminal to ask at, so flags must say what is needed:".to_owned());
    }
    missing
}

/// Regions to be reached by Private Service Connect of which no flag says how the endpoint is called.
fn nameless<'f>(wishes: &Wishes<'_>, chosen: &[&'f Region], kinds: &[EndpointKind]) -> Vec<&'f Region> {
    let is_named = |region: &Region| wishes.psc.iter().any(|(named, _)| same_region(named, &region.name));
    let with_psc = chosen.iter().filter(|region| kinds.contains(&EndpointKind::Psc) && region.psc.is_some());
    with_psc.filter(|region| !is_named(region)).copied().collect()
}

async fn endpoint_names(
    wishes: &Wishes<'_>,
    chosen: &[&Region],
    kinds: &[EndpointKind],
    can_ask: bool,
) -> Result<Vec<(String, String)>, CommandError> {
    let mut names = wishes.psc.clone();
    if can_ask {
        for region in nameless(wishes, chosen, kinds) {
            let may_be_left_out = kinds.iter().any(|kind| *kind != EndpointKind::Psc && region.host(*kind).is_some());
            if let Some(name) = ask::endpoint_name(region, may_be_left_out).await? {
                names.push((region.name.clone(), name));
            }
        }
    }
    Ok(names)
}

/// Says which regions have fewer ways than was asked for; each must have one.
fn note_lost(chosen: &[&Region], ways: &[Way]) -> Result<(), CommandError> {
    for region in chosen {
        let shown = printable(&region.name);
        if !ways.iter().any(|way| way.region == region.name) {
            let told = format!("region {shown} has no way in without the name of its endpoint (--psc-endpoint)");
            return Err(CommandError::Said(2, told));
        }
        let has_psc = |way: &Way| way.kind == EndpointKind::Psc;
        if ways.iter().any(has_psc) && !ways.iter().any(|way| has_psc(way) && way.region == region.name) {
            note(&format!("region {shown} is not reached by Private Service Connect, but by its other paths"));
        }
    }
    Ok(())
}

/// A name that the Cloud does not list may have come to be by SQL.
fn warn_of_stranger(what: &str, name: &str, known: &Known<Vec<String>>) {
    if let Known::Is(names) = known
        && !names.iter().any(|known| known == name)
    {
        let name = printable(name);
        note(&format!("the Cloud lists no {what} \"{name}\", but {}; going on with it", ask::listed(names)));
    }
}

fn usual_regions(found: &Found) -> Regions {
    match found.regions.as_slice() {
        [only] => Regions::These(vec![only.name.clone()]),
        _ => Regions::Nearest,
    }
}

/// Whoever names endpoints of Private Service Connect means to use them.
fn usual_path(wishes: &Wishes<'_>) -> Vec<EndpointKind> {
    vec![if wishes.psc.is_empty() { EndpointKind::Public } else { EndpointKind::Psc }]
}

/// What every cluster has.
pub(super) const DATABASE: &str = "defaultdb";
