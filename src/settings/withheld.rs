//! Variables that hold secrets: programs that the daemon starts do not find them in their environment, where every
//! process of the same user can read them.

use super::{Cluster, SecretSource, Settings};
use std::{collections::BTreeSet, sync::Arc};

/// Every source that these settings name.
pub(super) fn secret_sources(settings: &Settings) -> impl Iterator<Item = &SecretSource> {
    let of_clusters = settings
        .clusters
        .iter()
        .flat_map(|cluster| cluster.users().filter_map(|user| user.password.as_ref()).chain(&cluster.api_key));
    of_clusters.chain(settings.listeners.iter().filter_map(|listener| listener.local_password.as_ref()))
}

/// The variables that sources of these settings name, and those that hold a secret wherever they are set.
pub fn secret_variables(settings: &Settings) -> BTreeSet<&str> {
    secret_sources(settings).filter_map(variable_of).chain(ALWAYS).collect()
}

fn variable_of(source: &SecretSource) -> Option<&str> {
    if let SecretSource::Env(name) = source { Some(name) } else { None }
}

/// Has commands that print secrets run without all of them.
pub(super) fn withhold(settings: &mut Settings) {
    if !secret_sources(settings).any(|source| matches!(source, SecretSource::Command { .. })) {
        return;
    }
    let all: Arc<[String]> = secret_variables(settings).into_iter().map(str::to_owned).collect();
    let in_source = |source: &mut SecretSource| {
        if let SecretSource::Command { withheld, .. } = source {
            *withheld = Arc::clone(&all);
        }
    };
    for cluster in &mut settings.clusters {
        let Cluster { user, other_users, api_key, .. } = Arc::make_mut(cluster);
        let users = std::iter::once(user).chain(other_users);
        users.filter_map(|user| user.password.as_mut()).chain(api_key).for_each(in_source);
    }
    for listener in &mut settings.listeners {
        Arc::make_mut(listener).local_password.iter_mut().for_each(in_source);
    }
}

/// The cluster's password, a connection string with one, the key of the Cloud API.
const ALWAYS: [&str; 3] = ["CRDB_PROXY_PASSWORD", "CRDB_PROXY_URL", "COCKROACH_API_KEY"];

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_command_is_run_without_the_variables_of_every_other_source() {
        let text = "[cluster.a]\nca = \"system\"\napi_key = { command = [\"k\"] }\n\
                    user.one = { password = { command = [\"p\"] } }\nuser.two = { password = { env = \"TWO\" } }\n\
                    [[cluster.a.endpoint]]\nhost = \"h\"\n\
                    [[listener]]\nname = \"main\"\nuser = \"one\"\nlocal_password = { env = \"LOCAL\" }\n";

        let settings = super::super::load_text(text, Path::new("/f"), None).unwrap().settings;

        let lists = secret_sources(&settings).filter_map(|source| match source {
            SecretSource::Command { withheld, .. } => Some(withheld.to_vec()),
            _ => None,
        });
        let expected = ["COCKROACH_API_KEY", "CRDB_PROXY_PASSWORD", "CRDB_PROXY_URL", "LOCAL", "TWO"];
        assert_eq!(
            lists.collect::<Vec<_>>(),
            [expected.map(str::to_owned).to_vec(), expected.map(str::to_owned).to_vec()]
        );
    }
}
