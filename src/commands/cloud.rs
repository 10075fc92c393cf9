//! The commands that ask the Cloud API: which cluster is meant and with which key, what holds for all of them, and
//! how lists look. What people asked for goes to standard output, warnings go beside it.

use super::{CommandError, allowlist, block_on, look::ascii, note, private_endpoint, say, users};
use crate::{
    cli::CloudOrder,
    cloud::{self, Cloud},
    diagnostics::{self, printable},
    settings::{self, Inputs, Settings},
};
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json};
use std::{
    io::{BufRead, IsTerminal, Read},
    sync::Arc,
};

/// Asks or tells the Cloud API something about the cluster that is called so, or about the only one.
///
/// # Errors
/// There is no such cluster, no key, or no answer; or a change is not wanted after all.
pub fn cloud(inputs: &Inputs, cluster: Option<&str>, order: &CloudOrder) -> Result<u8, CommandError> {
    block_on(async {
        // What needs no answer of the API comes before it is asked.
        match order {
            CloudOrder::AllowlistList { json } => allowlist::list(&target(inputs, cluster).await?, *json).await,
            CloudOrder::AllowlistAdd { network, yes } => {
                let entry = allowlist::entry(network, inputs, cluster).await?;
                allowlist::add(&target(inputs, cluster).await?, entry, *yes).await
            }
            CloudOrder::AllowlistRemove { cidr, yes } => {
                let cidr = allowlist::range(cidr)?;
                allowlist::remove(&target(inputs, cluster).await?, cidr, *yes).await
            }
            CloudOrder::PrivateList { json } => private_endpoint::list(&target(inputs, cluster).await?, *json).await,
            CloudOrder::PrivateServices { json } => {
                private_endpoint::services(&target(inputs, cluster).await?, *json).await
            }
            CloudOrder::PrivateAdd { endpoint_id, yes } => {
                private_endpoint::add(&target(inputs, cluster).await?, endpoint_id.trim(), *yes).await
            }
            CloudOrder::PrivateStatus => private_endpoint::status(&target(inputs, cluster).await?).await,
            CloudOrder::UsersList { json } => users::list(&target(inputs, cluster).await?, *json).await,
        }?;
        Ok(0)
    })
}

/// The cluster that is meant, and who tells about it.
pub(super) struct Target {
    pub(super) cloud: Cloud,
    pub(super) cluster: cloud::Cluster,
    /// The same in the settings, if it stands there.
    pub(super) settings: Option<Arc<settings::Cluster>>,
}

async fn target(inputs: &Inputs, said: Option<&str>) -> Result<Target, CommandError> {
    let settings = match settings::load(inputs) {
        Ok(loaded) => Some(loaded.settings),
        Err(faults) if faults.is_nothing_given() => None,
        Err(faults) => return Err(faults.into()),
    };
    let meant = settings.as_ref().map_or(Ok(None), |settings| in_settings(settings, said))?;
    let strict = settings.is_some_and(|settings| settings.strict_secrets);
    let cloud = Cloud::with_source(meant.as_ref().and_then(|cluster| cluster.api_key.as_ref()), strict).await?;
    let id = meant.as_ref().and_then(|cluster| cluster.cluster_id.as_deref());
    let cluster = match (id, said, &meant) {
        (Some(id), _, _) => cloud.cluster(id).await?,
        (None, Some(said), _) => cloud.find(said).await?,
        (None, None, Some(meant)) => by_host(&cloud, meant).await?,
        (None, None, None) => only(&cloud).await?,
    };
    Ok(Target { cloud, cluster, settings: meant })
}

/// The settings' cluster of this name or ID, or their only one.
pub(super) fn in_settings(
    settings: &Settings,
    said: Option<&str>,
) -> Result<Option<Arc<settings::Cluster>>, CommandError> {
    let is_meant = |cluster: &&Arc<settings::Cluster>| {
        said.is_some_and(|said| cluster.name.as_str() == said || cluster.cluster_id.as_deref() == Some(said))
    };
    match (said, settings.clusters.as_slice()) {
        (Some(_), clusters) => Ok(clusters.iter().find(is_meant).cloned()),
        (None, [only]) => Ok(Some(Arc::clone(only))),
        (None, clusters) => {
            let names: Vec<_> = clusters.iter().map(|cluster| format!("\"{}\"", cluster.name)).collect();
            let text = format!("the settings have several clusters; name one with --cluster: {}", names.join(", "));
            Err(CommandError::Said(2, text))
        }
    }
}

/// The cluster whose hosts the settings name.
async fn by_host(cloud: &Cloud, meant: &settings::Cluster) -> Result<cloud::Cluster, CommandError> {
    let found = cloud.clusters().await?.into_iter().find(|cluster| cluster.has_a_host_of(meant));
    found.ok_or_else(|| {
        let text = format!(
            "no cluster that the API key may see has the hosts of cluster \"{}\" in the settings; set its cluster_id there, \
             or name one with --cluster",
            meant.name
        );
        CommandError::Said(2, text)
    })
}

/// The only one that the key may see.
async fn only(cloud: &Cloud) -> Result<cloud::Cluster, CommandError> {
    let mut clusters = cloud.clusters().await?;
    match (clusters.pop(), clusters.is_empty()) {
        (Some(only), true) => Ok(only),
        (last, _) => {
            let names = clusters.iter().chain(&last).map(|cluster| format!("\"{}\"", printable(&cluster.name)));
            let names: Vec<_> = names.take(NAMES_SHOWN).collect();
            let there_are = if names.is_empty() { "it may see none".to_owned() } else { names.join(", ") };
            let text = format!("name one of the API key's clusters with --cluster: {there_are}");
            Err(CommandError::Said(2, text))
        }
    }
}

impl Target {
    pub(super) fn id(&self) -> &str {
        &self.cluster.id
    }

    /// `cluster "prod"`.
    pub(super) fn title(&self) -> String {
        format!("cluster \"{}\"", printable(&self.cluster.name))
    }

    /// What is odd about the cluster itself, beside the answer.
    pub(super) fn remark(&self) {
        cloud::remarks(&self.cluster).iter().for_each(|remark| note(remark));
    }

    /// A list as JSON, with the same frame for all.
    pub(super) fn say_json(
        &self,
        key: &str,
        list: Value,
        more: Value,
        warnings: &[String],
    ) -> Result<(), CommandError> {
        let cluster = &self.cluster;
        let mut text = json!({
            "schema": 1,
            "cluster": {
                "id": cluster.id, "name": cluster.name, "plan": cluster.plan, "cloud_provider": cluster.cloud_provider,
                "state": cluster.state,
            },
            "warnings": cloud::remarks(cluster).iter().chain(warnings).collect::<Vec<_>>(),
        });
        if let Some(all) = text.as_object_mut() {
            all.insert(key.to_owned(), list);
            all.extend(more.as_object().cloned().unwrap_or_default());
        }
        say(&format!("{}\n", ascii(&text.to_string())))
    }
}

/// Rows below a heading, in columns; nothing where there is no row.
pub(super) fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.add_row(heading);
    for row in rows {
        table.add_row(row.iter().map(|cell| printable(cell)).collect::<Vec<_>>());
    }
    table.column_iter_mut().for_each(|column| {
        column.set_padding((0, 2));
    });
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// What stands in a cell for what the API did not say.
pub(super) fn cell(value: Option<&impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), ToString::to_string)
}

/// Asks whoever sits at the terminal whether this is to be done.
pub(super) fn confirm(what: &str, yes: bool) -> Result<(), CommandError> {
    if yes {
        return Ok(());
    }
    let stdin = std::io::stdin();
    if !stdin.is_terminal() || !diagnostics::has_reader() {
        let text = format!("nobody can be asked here whether to {what}; say --yes if it is to be done");
        return Err(CommandError::Said(2, text));
    }
    diagnostics::plainly(&format!("{what}? [y/N]"));
    let mut answer = String::new();
    // Whatever else is typed, or nothing at all, is no.
    let _ = stdin.lock().take(ANSWER_MAX).read_line(&mut answer);
    if ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()) {
        return Ok(());
    }
    Err(CommandError::Said(1, "nothing was changed".to_owned()))
}

const ANSWER_MAX: u64 = 100;
const NAMES_SHOWN: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_ascii_and_still_says_the_same() {
        let value = json!({"name": "gr\u{f6}\u{df}e \u{1f600}\u{9b}31m\u{7f}\n\"\\"});

        let text = ascii(&value.to_string());

        assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }

    #[test]
    fn a_table_stands_in_columns_and_cells_hold_no_control_characters() {
        let rows = [["a".to_owned(), "x\u{1b}[2J".to_owned()], ["longer".to_owned(), "y".to_owned()]];

        assert_eq!(table(["NAME", "STATE"], &rows), "NAME    STATE\na       x\\u{1b}[2J\nlonger  y\n");
        assert_eq!(table(["NAME"], &[]), "");
    }
}
