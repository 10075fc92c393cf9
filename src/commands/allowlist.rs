//! `allowlist list`, `allowlist add`, `allowlist remove`.

use super::{
    CommandError,
    cloud::{Target, confirm, table},
    note, say, whisper,
};
use crate::{
    check::{self, Wish},
    cli::AllowFlags,
    cloud::{self, AllowedNetwork, Allowlist, Cidr, Limits},
    settings::{self, Inputs},
    upstream::World,
};
use serde_json::json;
use std::sync::Arc;

/// Prints the entries, and what is odd about them.
pub(super) async fn list(target: &Target, json: bool) -> Result<(), CommandError> {
    let list = target.cloud.allowlist(target.id()).await?;
    let warnings = cloud::allowlist_warnings(&target.cluster, &list);
    if json {
        let more = json!({"propagating": list.propagating, "limit": cloud::allowlist_limit(&target.cluster)});
        return target.say_json("allowlist", json!(list.entries), more, &warnings);
    }
    let row = |entry: &AllowedNetwork| {
        let range = format!("{}/{}", entry.cidr_ip, entry.cidr_mask);
        [range, purpose(entry).to_owned(), entry.name.clone().unwrap_or_default()]
    };
    say(&table(["RANGE", "FOR", "NAME"], &list.entries.iter().map(row).collect::<Vec<_>>()))?;
    target.remark();
    warnings.iter().for_each(|warning| note(warning));
    Ok(())
}

fn purpose(entry: &AllowedNetwork) -> &'static str {
    match (entry.sql, entry.ui) {
        (true, true) => "SQL and DB Console",
        (true, false) => "SQL",
        (false, true) => "DB Console",
        (false, false) => "nothing",
    }
}

/// The entry that flags ask for. May ask whoever they name for this machine's address.
pub(super) async fn entry(
    flags: &AllowFlags,
    inputs: &Inputs,
    cluster: Option<&str>,
) -> Result<AllowedNetwork, CommandError> {
    let wrong = |text: &str| Err(CommandError::Said(2, text.to_owned()));
    let cidr = match (&flags.cidr, flags.me, &flags.address, &flags.address_from) {
        (Some(cidr), false, None, None) => range(cidr)?,
        (None, true, Some(address), None) => own(address)?,
        (None, true, None, Some(url)) => {
            let address = cloud::own_address(url, Limits::default()).await;
            own(&address.map_err(|sentence| CommandError::Said(1, sentence))?.to_string())?
        }
        (None, true, None, None) => match seen_by_cluster(inputs, cluster).await {
            Some(address) => {
                note(&format!("the cluster sees this machine as {address}"));
                own(&address)?
            }
            None => return wrong(NO_ADDRESS),
        },
        (None, true, Some(_), Some(_)) => return wrong("--address and --address-from exclude each other"),
        (None, false, None, None) => return wrong("name the range to allow, as 192.0.2.0/24, or say --me"),
        (_, false, _, _) => return wrong("--address and --address-from go with --me"),
        (Some(_), true, _, _) => return wrong("--me and a range exclude each other"),
    };
    let (sql, ui) = (!flags.ui, !flags.sql_only);
    let address = cidr.first();
    if address != cidr.address {
        note(&format!("{cidr} is taken as {address}/{}, the range that it lies in", cidr.mask));
    }
    let name = flags.name.clone().filter(|name| !name.is_empty());
    Ok(AllowedNetwork { cidr_ip: address.to_string(), cidr_mask: cidr.mask, name, sql, ui })
}

/// This machine's address as the cluster sees it, where a public endpoint of the settings lets it in already: through a
/// wider range, most likely, that this is to replace.
async fn seen_by_cluster(inputs: &Inputs, cluster: Option<&str>) -> Option<String> {
    let loaded = settings::load(inputs).ok()?;
    let name = super::cloud::in_settings(&loaded.settings, cluster).ok()??.name.to_string();
    whisper(&format!("asking cluster \"{name}\" by SQL for this machine's address"));
    let wish = Wish { cluster: Some(name), failover: false };
    let nobody: Arc<dyn check::Watch + Send + Sync> = Arc::new(check::Unwatched);
    let report = check::check(&loaded, &wish, &World::of_machine(), &[], &nobody).await.ok()?;
    let endpoints = report.clusters.into_iter().flat_map(|cluster| cluster.endpoints);
    endpoints.filter(|endpoint| endpoint.kind == "public").find_map(|endpoint| endpoint.server?.client_address)
}

/// A range as it stands on a command line.
pub(super) fn range(text: &str) -> Result<Cidr, CommandError> {
    text.parse().map_err(|()| CommandError::Said(2, cloud::refused_range(text)))
}

fn own(address: &str) -> Result<Cidr, CommandError> {
    match range(address)? {
        own if own.mask == 32 => Ok(own),
        _ => Err(CommandError::Said(2, "--address must be one address, as 192.0.2.7".to_owned())),
    }
}

/// Adds an entry, unless that is no use.
pub(super) async fn add(target: &Target, entry: AllowedNetwork, yes: bool) -> Result<(), CommandError> {
    let list = target.cloud.allowlist(target.id()).await?;
    target.remark();
    let range = format!("{}/{}", entry.cidr_ip, entry.cidr_mask);
    if let Some(known) = list.entries.iter().find(|known| is_same_range(known, &entry)) {
        let covers = (known.sql || !entry.sql) && (known.ui || !entry.ui);
        if covers {
            return say(&format!("{range} is allowed already, for {}\n", purpose(known)));
        }
        let text = format!(
            "{range} is on the allowlist already, for {}; to change that, run `crdb-proxy allowlist remove {range}` first",
            purpose(known)
        );
        return Err(CommandError::Said(1, text));
    }
    refuse_if_full(target, &list)?;
    if let Some(wider) = list.entries.iter().find(|known| covers(known, &entry)) {
        note(&format!("{}/{} allows these addresses already", wider.cidr_ip, wider.cidr_mask));
    }
    cloud::entry_warnings(&entry).iter().for_each(|warning| note(warning));
    confirm(&format!("allow {range} to connect to {}, for {}", target.title(), purpose(&entry)), yes)?;
    target.cloud.allow(target.id(), &entry).await?;
    say(&format!("{range} is allowed, for {}; that is in force everywhere in some seconds\n", purpose(&entry)))
}

fn is_same_range(known: &AllowedNetwork, entry: &AllowedNetwork) -> bool {
    known.cidr_mask == entry.cidr_mask && known.cidr_ip == entry.cidr_ip
}

/// Whether a known entry allows all that a new one would.
fn covers(known: &AllowedNetwork, entry: &AllowedNetwork) -> bool {
    let is_wider = known.cidr_mask <= entry.cidr_mask;
    let holds = entry.cidr().is_some_and(|cidr| known.contains(cidr.first()));
    is_wider && holds && (known.sql || !entry.sql) && (known.ui || !entry.ui)
}

fn refuse_if_full(target: &Target, list: &Allowlist) -> Result<(), CommandError> {
    let Some(limit) = cloud::allowlist_limit(&target.cluster).filter(|limit| list.entries.len() >= *limit) else {
        return Ok(());
    };
    let text = format!(
        "the allowlist of {} is full ({} of {limit} entries): join networks that lie side by side in one entry, remove what \
         nobody needs, or connect privately",
        target.title(),
        list.entries.len()
    );
    Err(CommandError::Said(1, text))
}

/// Removes an entry that is there.
pub(super) async fn remove(target: &Target, cidr: Cidr, yes: bool) -> Result<(), CommandError> {
    let list = target.cloud.allowlist(target.id()).await?;
    target.remark();
    let Some(entry) = list.entries.iter().find(|known| known.cidr() == Some(cidr)) else {
        let text = format!("{cidr} is not on the allowlist of {}; see `crdb-proxy allowlist list`", target.title());
        return Err(CommandError::Said(1, text));
    };
    confirm(&format!("remove {cidr}, for {}, from the allowlist of {}", purpose(entry), target.title()), yes)?;
    target.cloud.disallow(target.id(), cidr).await?;
    say(&format!("{cidr} is removed; that is in force everywhere in some seconds\n"))
}

const NO_ADDRESS: &str = "no public endpoint of the settings lets this machine in, so the cluster cannot be asked for its \
    address; the Cloud API does not tell it, and crdb-proxy asks no third party of its own accord: give this machine's public IPv4 address with --address, or a service of your choice that answers with \
    it with --address-from https://…";
