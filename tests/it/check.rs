//! `crdb-proxy check`: every trouble that can be staged here, against real servers, and what the command says of it.

mod certificates;
mod cloud;
mod login;
mod network;
mod output;

use crate::harness::{DEADLINE, FakeUpstream, Script, Session, SettingsFile, TestProxy, process, wire};
use serde_json::Value;
use std::sync::Arc;

/// What a check found, as JSON, and what it exits with.
struct Checked {
    report: Value,
    exit: i32,
}

impl Checked {
    /// Of these settings, with these further arguments.
    #[track_caller]
    fn of_with(settings: &SettingsFile, arguments: &[&str]) -> Self {
        let file = settings.write();
        let mut command = TestProxy::command(file.parent().unwrap());
        command.args(["check", "--json", "--config"]).arg(&file).args(arguments).envs(settings.environment());
        let finished = process::run(&mut command, "", DEADLINE);
        let report = serde_json::from_str(&finished.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}\n{}", finished.stdout, finished.stderr));
        let exit = finished.status.code().unwrap();
        let checked = Self { report, exit };
        assert_eq!(checked.report["exit"], exit);
        assert_eq!(checked.report["ok"], exit == 0);
        checked
    }

    #[track_caller]
    fn of(settings: &SettingsFile) -> Self {
        Self::of_with(settings, &[])
    }

    /// The first cluster.
    fn cluster(&self) -> &Value {
        &self.report["clusters"][0]
    }

    /// The first endpoint of the first cluster.
    fn endpoint(&self) -> &Value {
        &self.cluster()["endpoints"][0]
    }

    /// It failed at this stage, with this advice: the words of symptom, cause and fix.
    #[track_caller]
    fn failed(&self, stage: &str, exit: i32, id: &str) -> String {
        let endpoint = self.endpoint();
        assert_eq!((endpoint["failed_at"].as_str(), self.exit), (Some(stage), exit), "{endpoint:#}");
        let advice = &endpoint["advice"];
        assert_eq!(advice["id"], id, "{advice:#}");
        let last = endpoint["stages"].as_array().unwrap().last().unwrap();
        assert_eq!((last["stage"].as_str(), last["ok"].as_bool()), (Some(stage), Some(false)), "{endpoint:#}");
        words(advice)
    }

    /// The notes with this ID, of whatever they are.
    fn notes(&self, id: &str) -> Vec<String> {
        let of = |owner: &Value| owner["notes"].as_array().cloned().unwrap_or_default();
        let cluster = self.cluster();
        let endpoints = cluster["endpoints"].as_array().into_iter().flatten();
        let owners = endpoints.chain([cluster]).chain(self.report["listeners"].as_array().into_iter().flatten());
        owners.flat_map(of).filter(|note| note["id"] == id).map(|note| words(&note)).collect()
    }
}

fn words(advice: &Value) -> String {
    ["symptom", "cause", "fix"].map(|part| advice[part].as_str().unwrap()).join(" | ")
}

/// A CockroachDB node of `region` with these databases, which lets anybody in to any database, as CockroachDB does.
fn cockroach(region: &'static str, databases: &'static [&'static str]) -> FakeUpstream {
    FakeUpstream::start(Script { session: cockroach_session(region, databases), ..Script::default() })
}

fn cockroach_session(region: &'static str, databases: &'static [&'static str]) -> Session {
    Session::Run(Arc::new(move |mut wire| {
        while let Ok(message) = wire.next_message() {
            let Some(sql) = message.query() else { return };
            let rows: Vec<&str> = match sql.as_str() {
                sql if sql.starts_with("SELECT datname") => databases.to_vec(),
                "SELECT version()" => vec!["CockroachDB CCL v25.4.1 (x86_64-pc-linux-gnu)"],
                "SELECT gateway_region()" => vec![region],
                sql if sql.contains("[SHOW SESSIONS]") => vec!["203.0.113.9:50000"],
                _ => vec!["1"],
            };
            wire.try_send(&wire::rows(&rows)).ok();
        }
    }))
}
