//! What a cluster's plan and state mean for whoever wants to connect.

use crate::{
    cloud::{Cluster, ClusterState, Plan},
    diagnostics::printable,
};

/// What is not as it should be, one sentence each; nothing of a cluster of plan ADVANCED that serves in peace.
pub fn remarks(cluster: &Cluster) -> Vec<String> {
    let operations = [cluster.operation_status.as_deref(), cluster.upgrade_status.as_deref()];
    let operations = operations.into_iter().flatten().filter_map(operation);
    plan(cluster.plan.as_ref()).into_iter().chain(state(cluster.state.as_ref())).chain(operations).collect()
}

fn plan(plan: Option<&Plan>) -> Option<String> {
    match plan? {
        Plan::Advanced => None,
        plan => Some(format!(
            "the cluster's plan is {}, and crdb-proxy is made for ADVANCED: it serves this cluster as one public host, \
             without regions to choose from and without private endpoints; have its CA certificate as `ca`, or \"system\"",
            printable(plan.word())
        )),
    }
}

fn state(state: Option<&ClusterState>) -> Option<String> {
    Some(match state? {
        ClusterState::Created => return None,
        ClusterState::Creating => {
            "the cluster is still being created: nothing can connect to it, and its networks can be \
                                   set up only afterwards; try again in half an hour"
                .to_owned()
        }
        ClusterState::CreationFailed => {
            "the cluster could not be created: see why on its page in the Cloud Console, delete \
                                         it, and create another one"
                .to_owned()
        }
        ClusterState::Deleted => "the cluster is deleted: name another one with --cluster".to_owned(),
        ClusterState::Locked => {
            "the cluster is locked: an operation is under way that allows no other, so changes are \
                                 refused until it has ended; see its page in the Cloud Console, and ask \
                                 https://support.cockroachlabs.com if it lasts for hours"
                .to_owned()
        }
        ClusterState::Other(word) => format!(
            "the cluster's state is {}, which this version does not know: see its page in the Cloud Console",
            printable(word)
        ),
    })
}

/// Of an operation or upgrade, as far as that shows in its name.
fn operation(status: &str) -> Option<String> {
    let name = printable(status);
    if status.ends_with("RUNNING") {
        return Some(format!(
            "{name}: nodes restart one after another until it has ended, so sessions may end (SQLSTATE 57P01); new ones \
             are served by the other nodes"
        ));
    }
    let has_failed = status.ends_with("FAILED");
    has_failed.then(|| format!("{name}: see the cluster's page in the Cloud Console, and ask support"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::testing::cluster;

    fn remarks_with(change: impl FnOnce(&mut Cluster)) -> Vec<String> {
        let mut cluster = cluster();
        change(&mut cluster);
        remarks(&cluster)
    }

    #[test]
    fn there_is_nothing_to_say_of_a_cluster_that_serves_in_peace() {
        assert_eq!(remarks(&cluster()), Vec::<String>::new());
    }

    #[test]
    fn another_plan_and_every_other_state_has_a_sentence_that_names_it() {
        let plan = |plan: &str| remarks_with(|cluster| cluster.plan = Some(Plan::from_word(plan))).remove(0);
        assert!(plan("BASIC").starts_with("the cluster's plan is BASIC, and crdb-proxy is made for ADVANCED"));
        assert!(plan("STANDARD").starts_with("the cluster's plan is STANDARD, and"));
        assert!(plan("NEWEST\u{1b}").starts_with("the cluster's plan is NEWEST\\u{1b}, and"));

        let state =
            |state: &str| remarks_with(|cluster| cluster.state = Some(ClusterState::from_word(state))).remove(0);
        assert!(state("CREATING").contains("still being created") && state("CREATING").contains("try again"));
        assert!(state("CREATION_FAILED").contains("could not be created"));
        assert!(state("DELETED").contains("name another one"));
        assert!(state("LOCKED").contains("until it has ended"));
        assert!(state("ODD").contains("state is ODD"));
    }

    #[test]
    fn an_operation_that_runs_means_restarts_whatever_its_name() {
        let told = |status: &str| remarks_with(|cluster| cluster.operation_status = Some(status.to_owned()));

        assert!(told("CRDB_SOMETHING_NEW_RUNNING")[0].starts_with("CRDB_SOMETHING_NEW_RUNNING: nodes restart"));
        assert!(told("CRDB_PATCH_FAILED")[0].contains("ask support"));
        assert_eq!(told("UPGRADE_AVAILABLE"), Vec::<String>::new());
    }
}
