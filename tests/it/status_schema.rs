//! `docs/status.schema.json` says what `/status` answers: all of it, and nothing else.

use crate::{
    drivers::environment,
    harness::{DEADLINE, FakeUpstream, SettingsFile, markdown::root, process},
    page::Scene,
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs, process::Command};

#[track_caller]
fn judge(answers: &[Value]) -> Vec<Vec<String>> {
    judge_by("docs/status.schema.json", answers)
}

/// What is wrong with each answer, by this schema.
#[track_caller]
pub(crate) fn judge_by(schema: &str, answers: &[Value]) -> Vec<Vec<String>> {
    // Longer than a pipe holds.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("answers.json");
    fs::write(&file, serde_json::to_vec(answers).unwrap()).unwrap();
    let mut python = Command::new("sh");
    python.args(["-c", "exec \"$@\" <\"$0\""]).arg(&file).arg(environment("python/bin/python"));
    python.arg(root().join("tests/status/judge.py")).arg(root().join(schema));
    let wrong = process::run(&mut python, "", DEADLINE).expect_success();
    serde_json::from_str(&wrong).unwrap()
}

#[test]
fn every_answer_is_as_the_schema_says() {
    let scene = Scene::set();
    let full = scene.proxy.status();
    for path in [
        "/sessions/0/endpoint",
        "/warm/0/ready",
        "/refusals/0/hint",
        "/clusters/1/name",
        "/clusters/0/certificate/not_after",
    ] {
        assert!(full.pointer(path).is_some_and(|value| !value.is_null()), "{path} is not in {full}");
    }
    assert_eq!(full["clusters"][0]["endpoints"][2]["state"], "down");
    assert_eq!(full["clusters"][0]["endpoints"][1]["by_hand"]["order"], "disabled");

    let answers = [full, fresh(), in_startup(), draining(), reloaded(), without_secret()];

    assert_eq!(judge(&answers), vec![Vec::<String>::new(); answers.len()]);
}

#[test]
fn an_answer_that_lacks_a_field_or_has_another_one_is_told_apart() {
    let scene = Scene::set();
    let full = scene.proxy.status();
    let mut places = Vec::new();
    collect(&full, "", &mut places);
    let is_element = |place: &str| place.rsplit('/').next().is_some_and(|last| last.parse::<usize>().is_ok());
    let fields = places.iter().filter(|place| !is_element(place));
    let (mut names, mut changed) = (Vec::new(), Vec::new());
    for place in fields {
        let (parent, field) = place.rsplit_once('/').unwrap();
        let change = |change: &dyn Fn(&mut Value)| {
            let mut answer = full.clone();
            change(answer.pointer_mut(parent).unwrap());
            answer
        };
        names.extend([format!("without {place}"), format!("{place} of another kind"), format!("more beside {place}")]);
        changed.push(change(&|object| drop(object.as_object_mut().unwrap().remove(field))));
        changed.push(change(&|object| object[field] = json!([[]])));
        changed.push(change(&|object| object["unknown"] = json!(1)));
    }
    assert!(names.len() > 250, "only {} changes were made", names.len());

    let wrong = judge(&changed);

    for (name, wrong) in names.iter().zip(wrong) {
        assert!(!wrong.is_empty(), "{name}: nothing is wrong with that");
    }
}

#[test]
fn every_field_of_the_schema_has_a_description() {
    assert!(described("docs/status.schema.json") > 60);
}

/// How many fields this schema has; each has a description, and is always there.
#[track_caller]
pub(crate) fn described(schema: &str) -> usize {
    let schema: Value = serde_json::from_str(&fs::read_to_string(root().join(schema)).unwrap()).unwrap();
    let mut fields = BTreeSet::new();
    let objects = schema["$defs"].as_object().unwrap().values().chain([&schema]);
    for object in objects.filter(|object| object["type"] == "object") {
        for (name, field) in object["properties"].as_object().unwrap() {
            let description = field["description"].as_str().unwrap_or_default();
            assert!(description.ends_with('.') && description.len() > 8, "{name}: {description:?}");
            assert!(object["required"].as_array().unwrap().contains(&json!(name)), "{name} may be left out");
            assert!(["type", "$ref", "anyOf"].iter().any(|kind| field.get(kind).is_some()), "{name} is of any type");
            fields.insert(name);
        }
    }
    fields.len()
}

/// Of a daemon that nothing has happened to.
fn fresh() -> Value {
    let mut cluster = FakeUpstream::answering();
    cluster.stop();
    let proxy = SettingsFile::of(&cluster).address("unix:.").start();
    let status = proxy.status();
    assert_eq!((&status["sessions"], &status["listeners"][0]["connect_ms_p50"]), (&json!([]), &Value::Null));
    status
}

/// Of a daemon with a client that has said nothing yet.
fn in_startup() -> Value {
    let cluster = FakeUpstream::by_hand();
    let proxy = SettingsFile::of(&cluster).start();
    let _silent = proxy.connect();
    proxy.wait_for_active(1.0);
    let status = proxy.status();
    assert_eq!(
        (&status["sessions"][0]["state"], &status["sessions"][0]["database"]),
        (&json!("startup"), &Value::Null)
    );
    status
}

/// Of a daemon that waits for a session to end.
fn draining() -> Value {
    let cluster = FakeUpstream::by_hand();
    let proxy = SettingsFile::of(&cluster).start();
    let mut client = proxy.client();
    client.send(&crate::harness::wire::query("select 1"));
    assert_eq!(proxy.http("POST /drain", "").0, 202);
    proxy.wait_for_message("draining");
    let status = proxy.status();
    assert_eq!((&status["state"], &status["ready"]), (&json!("draining"), &json!(false)));
    status
}

/// Of a daemon that found fault with its new settings, and needs a restart for others.
fn reloaded() -> Value {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).start();
    let before = proxy.status(); // It has read the file then.
    assert_eq!(before["config"]["needs_restart"], json!([]));
    let file = proxy.path("crdb-proxy.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("threads = 3\n{text}")).unwrap();
    assert_eq!(proxy.http("POST /reload", "").0, 202);
    fs::write(&file, format!("nonsense = 3\n{text}")).unwrap();
    assert_eq!(proxy.http("POST /reload", "").0, 422);
    let status = proxy.status();
    assert!(status["config"]["last_error"].is_string(), "{}", status["config"]);
    assert_eq!(status["config"]["needs_restart"], json!(["threads"]));
    status
}

/// Of a daemon whose password file is gone.
fn without_secret() -> Value {
    let cluster = FakeUpstream::answering();
    let proxy = SettingsFile::of(&cluster).start();
    proxy.address();
    fs::remove_file(proxy.path("app.pw")).unwrap();
    proxy.client();
    let status = proxy.status();
    assert!(status["clusters"][0]["secret"]["error"].is_string(), "{}", status["clusters"]);
    assert!(status["clusters"][0]["endpoints"][0]["tried_at"].is_string(), "{}", status["clusters"]);
    status
}

/// Every place in a value, of lists only in the first element.
fn collect(value: &Value, place: &str, found: &mut Vec<String>) {
    if !place.is_empty() {
        found.push(place.to_owned());
    }
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| collect(value, &format!("{place}/{name}"), found))
        }
        Value::Array(values) => values.iter().take(1).for_each(|value| collect(value, &format!("{place}/0"), found)),
        _ => {}
    }
}
