//! The questions of `setup`, at a real terminal.

use super::{Scene, mode, names};
use serde_json::json;
use std::fs;

/// What the terminal shows last before an answer.
const USER: &str =
    "SQL user that every session logs in as, whatever an application says; there are app, maintenance [app]";
const DATABASE: &str = "Database of applications that name none; there are defaultdb, shop [defaultdb]";
const REGIONS: &str = "Regions that may serve, by commas and in order, of gcp-us-east1, gcp-us-west2; or nearest: all of \
                       them, the one that answers soonest first [nearest]";
const PATHS: &str = "Paths into the cluster, by commas and in order [public]";
const PSC: &str = "Name of the Private Service Connect endpoint in gcp-us-east1, as your Google Cloud project has it; or \
                   none [none]";
const PASSWORD_PLACE: &str = "Where the password of app is; the settings say where, never what [type]";
const PASSWORD: &str = "Password of app (not shown), for ";

#[test]
fn empty_answers_mean_what_stands_in_brackets_and_the_password_is_not_shown() {
    let scene = Scene::new();
    let mut terminal = scene.at_terminal("setup --no-check --cluster prod --config new/prod.toml");

    for question in [USER, DATABASE, REGIONS, PATHS, PASSWORD_PLACE] {
        terminal.wait_for(question);
        assert!(terminal.echoes());
        terminal.type_keys("\n");
    }
    terminal.wait_for(PASSWORD);
    assert!(!terminal.echoes());
    terminal.type_keys("open sesame \n");

    assert_eq!(terminal.exit_code(), 0, "{}", terminal.text());
    assert!(terminal.echoes());
    assert!(!terminal.text().contains("sesame"), "{}", terminal.text());
    terminal.wait_for("next: crdb-proxy check --config ");
    let folder = scene.path("new");
    assert_eq!(names(&folder), ["prod-ca.crt", "prod.pw", "prod.toml"]);
    assert_eq!(fs::read_to_string(folder.join("prod.pw")).unwrap(), "open sesame ");
    assert_eq!((mode(&folder), mode(&folder.join("prod.pw")), mode(&folder.join("prod.toml"))), (0o700, 0o600, 0o600));
    let text = fs::read_to_string(folder.join("prod.toml")).unwrap();
    for line in ["user = \"app\"", "password = { file = \"prod.pw\" }", "regions = \"nearest\"", "path = [\"public\"]"]
    {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    scene.run_with("config check --config new/prod.toml", &[]).expect_success();
}

#[test]
fn an_answer_that_cannot_be_is_asked_for_again() {
    let scene = Scene::new();
    let mut terminal =
        scene.at_terminal("setup --no-check --cluster prod --config prod.toml --user app --database shop");
    let mut answer = |question: &str, keys: &str, told: &str| {
        terminal.wait_for(question);
        let before = terminal.lines();
        terminal.type_keys(keys);
        terminal.wait_for_after(before, told);
    };

    answer(REGIONS, "nearest,gcp-us-east1\n", "  \"nearest\" stands alone");
    answer(REGIONS, "gcp-us-east9\n", "  the cluster has no region \"gcp-us-east9\", but gcp-us-east1, gcp-us-west2");
    answer(REGIONS, "us-east1, us-west2\n", PATHS);
    answer(PATHS, "psc\n", "  psc leads nowhere in region gcp-us-west2; add another path, or name the regions");
    answer(PATHS, "psc,public\n", PSC);
    answer(PSC, "My-Psc\n", "  must be the name of a Private Service Connect endpoint");
    answer(PSC, "my-psc\n", "region gcp-us-west2 is not reached by Private Service Connect, but by its other paths");
    answer(PASSWORD_PLACE, "hunter2\n", "  must be type, file PATH, env NAME or run COMMAND");
    answer(PASSWORD_PLACE, "file ~/\n", " is not a regular file");
    answer(PASSWORD_PLACE, "file ~/prod-ca.crt\n", "would hold both the CA certificate and the password");
    answer(PASSWORD_PLACE, "file ~/prod.toml\n", "would hold both the settings and the password");
    answer(PASSWORD_PLACE, "env hunter2!\n", "  must be the name of a variable, which holds the password");
    answer(PASSWORD_PLACE, "run vault read secret\n", "next: crdb-proxy check");

    assert_eq!(terminal.exit_code(), 0, "{}", terminal.text());
    let text = fs::read_to_string(scene.path("prod.toml")).unwrap();
    for line in [
        "password = { command = [\"vault\", \"read\", \"secret\"] }",
        "endpoint_name = \"my-psc\"",
        "regions = [\"gcp-us-east1\", \"gcp-us-west2\"]",
        "path = [\"psc\", \"public\"]",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[test]
fn what_flags_say_is_not_asked_and_a_password_file_that_is_not_there_is_made() {
    let scene = Scene::new();
    let words =
        "setup --no-check --cluster prod --user app --database shop --region us-east1 --path public --config prod.toml";
    let mut terminal = scene.at_terminal(&format!("{words} --password-file new.pw"));

    terminal.wait_for(PASSWORD);
    terminal.type_keys("\n");
    terminal.wait_for("  must not be empty");
    terminal.type_keys("sesame\n");

    assert_eq!(terminal.exit_code(), 0, "{}", terminal.text());
    assert!(!terminal.text().contains('['), "it has asked\n{}", terminal.text());
    assert_eq!(
        (fs::read_to_string(scene.path("new.pw")).unwrap(), mode(&scene.path("new.pw"))),
        ("sesame".into(), 0o600)
    );
    // Now there is nothing left to ask.
    let mut again = scene.at_terminal(&format!("{words} --password-file new.pw"));
    assert_eq!(again.exit_code(), 0, "{}", again.text());
    assert!(again.text().contains("nothing has changed"), "{}", again.text());
}

#[test]
fn a_password_file_that_comes_to_be_meanwhile_stays_and_nothing_else_is_left() {
    let scene = Scene::new();
    let words =
        "setup --no-check --cluster prod --user app --database shop --region us-east1 --path public --config prod.toml";
    let mut terminal = scene.at_terminal(&format!("{words} --password-file new.pw"));
    terminal.wait_for(PASSWORD);
    fs::write(scene.path("new.pw"), "theirs").unwrap();
    terminal.type_keys("sesame\n");

    assert_eq!(terminal.exit_code(), 2, "{}", terminal.text());
    terminal.wait_for("new.pw came to be meanwhile, so it was left as it is");
    assert_eq!(fs::read_to_string(scene.path("new.pw")).unwrap(), "theirs");
    assert_eq!(names(scene.folder.path()), ["app.pw", "new.pw"]);
}

#[test]
fn what_leaves_no_choice_is_not_asked() {
    let scene = Scene::new();
    let region = json!({"name": "us-east-1", "sql_dns": "prod-abc.aws-us-east-1.cockroachlabs.example"});
    scene.api.cluster("cloud_provider", json!("AWS"));
    scene.api.cluster("regions", json!([region]));
    let mut terminal =
        scene.at_terminal("setup --no-check --cluster prod --user app --database shop --config prod.toml");

    terminal.wait_for(PASSWORD_PLACE);
    terminal.type_keys("file ~/app.pw\n");

    assert_eq!(terminal.exit_code(), 0, "{}", terminal.text());
    let text = fs::read_to_string(scene.path("prod.toml")).unwrap();
    for line in ["path = [\"public\"]", "regions = [\"aws-us-east-1\"]", "password = { file = \"app.pw\" }"] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(
        !terminal.text().contains("Paths into") && !terminal.text().contains("Regions that"),
        "{}",
        terminal.text()
    );
}

#[test]
fn a_password_that_lies_beside_the_settings_is_offered() {
    let scene = Scene::new();
    fs::rename(scene.path("app.pw"), scene.path("prod.pw")).unwrap();
    let words =
        "setup --no-check --cluster prod --user app --database shop --region us-east1 --path public --config prod.toml";
    let mut terminal = scene.at_terminal(words);

    terminal.wait_for("Where the password of app is; the settings say where, never what [file]");
    terminal.wait_for("it is there already: ");
    terminal.type_keys("\n");

    assert_eq!(terminal.exit_code(), 0, "{}", terminal.text());
    assert_eq!(fs::read_to_string(scene.path("prod.pw")).unwrap(), "secret");
    assert!(fs::read_to_string(scene.path("prod.toml")).unwrap().contains("password = { file = \"prod.pw\" }"));
}

#[test]
fn whatever_ends_it_at_a_question_leaves_no_file_and_a_terminal_as_it_was() {
    for keys in ["\u{3}", "\u{4}"] {
        let scene = Scene::new();
        let said =
            if keys == "\u{3}" { "stopped; nothing was written" } else { "the input has ended; nothing was written" };
        let mut at_user = scene.at_terminal("setup --no-check --cluster prod --config prod.toml");
        at_user.wait_for(USER);
        at_user.type_keys(keys);
        assert_eq!(at_user.exit_code(), 1, "{}", at_user.text());
        at_user.wait_for(said);

        let words = "setup --no-check --cluster prod --user app --database shop --region us-east1 --path public --config prod.toml";
        let mut at_password = scene.at_terminal(&format!("{words} --password-file new.pw"));
        at_password.wait_for(PASSWORD);
        assert!(!at_password.echoes());
        at_password.type_keys(keys);

        assert_eq!(at_password.exit_code(), 1, "{}", at_password.text());
        assert!(at_password.echoes(), "{keys:?}");
        at_password.wait_for(said);
        scene.assert_left_nothing();
    }
}

#[test]
fn a_signal_ends_it_as_ctrl_c_does() {
    let scene = Scene::new();
    let words =
        "setup --no-check --cluster prod --user app --database shop --region us-east1 --path public --config prod.toml";
    let mut terminal = scene.at_terminal(&format!("{words} --password-file new.pw"));
    terminal.wait_for(PASSWORD);

    terminal.signal(rustix::process::Signal::TERM);

    assert_eq!(terminal.exit_code(), 1, "{}", terminal.text());
    assert!(terminal.echoes());
    scene.assert_left_nothing();
}
