//! What is shown of a status, whatever it says.

use super::*;

const LOOK: Look = Look { width: 80, with_colours: false };

fn status(text: &str) -> Status {
    serde_json::from_str(text).unwrap()
}

/// With one listener that has completed so many statements.
fn with_statements(started_at: &str, statements: u64) -> Status {
    status(&format!(
        "{{\"started_at\":\"{started_at}\",\"state\":\"running\",\"listeners\":[{{\"name\":\"main\",\
         \"statements\":{statements}}}]}}"
    ))
}

#[test]
fn all_of_it_fits_eighty_columns_however_long_the_names_are() {
    let long = "n".repeat(63);
    let text = status(&format!(
        "{{\"started_at\":\"2026-01-31T09:00:00.000Z\",\"version\":\"0.1.0\",\"state\":\"running\",\
         \"reasons\":[\"{long}{long}\"],\"listeners\":[{{\"name\":\"{long}\",\"addresses\":[\"unix:/{long}{long}\"],\
         \"endpoint\":\"{long}\",\"sessions\":10000,\"accepted\":18446744073709551615,\"refused\":123456,\
         \"statements\":18446744073709551615,\"errors\":999999,\"bytes_to_upstream\":18446744073709551615,\
         \"bytes_to_client\":18446744073709551615}}],\
         \"clusters\":[{{\"name\":\"{long}\",\"endpoints\":[{{\"name\":\"{long}\",\"host\":\"{long}.{long}\",\
         \"state\":\"suspect\",\"by_hand\":{{\"order\":\"disabled\"}},\"latency_ms\":12345.67,\"sessions\":10000,\
         \"warm\":64}}]}}],\"sessions\":[{{\"id\":123456789,\"client\":\"[{long}]:65535\",\"listener\":\"{long}\",\
         \"endpoint\":\"{long}\",\"database\":\"{long}\",\"application_name\":\"{long}\",\"state\":\"transaction\",\
         \"statements\":18446744073709551615}}]}}"
    ));
    for before in [None, Some(Before { status: &text.clone(), span: Duration::from_secs(1) })] {
        let shown = told(&text, before, &LOOK);

        assert_eq!(shown.lines().count(), 2 + 3 * 3, "{shown}");
        for line in shown.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
}

#[test]
fn nothing_that_a_client_says_reaches_the_terminal_as_it_is() {
    let hostile = "\\u001b[2J\\u009b31m\\n\\u202ex";
    let text = status(&format!(
        "{{\"started_at\":\"{hostile}{hostile}\",\"version\":\"{hostile}\",\"state\":\"{hostile}\",\
         \"reasons\":[\"{hostile}\"],\"config\":{{\"last_error\":\"{hostile}\",\"needs_restart\":[\"{hostile}\"]}},\
         \"listeners\":[{{\"name\":\"{hostile}\"}}],\"clusters\":[{{\"name\":\"{hostile}\",\
         \"endpoints\":[{{\"name\":\"{hostile}\",\"reason\":\"{hostile}\"}}]}}],\
         \"sessions\":[{{\"application_name\":\"{hostile}\",\"database\":\"{hostile}\",\"client\":\"{hostile}\"}}]}}"
    ));

    let shown = told(&text, None, &LOOK);

    let unprintable = |letter: char| (letter.is_control() && letter != '\n') || letter == '\u{202e}';
    assert!(!shown.contains(unprintable), "{shown:?}");
}

#[test]
fn rates_are_differences_and_never_negative() {
    let second = |status| Some(Before { status, span: Duration::from_secs(2) });
    let statements = |shown: &str| shown.lines().nth(3).unwrap().split_whitespace().nth(5).unwrap().to_owned();
    let (early, late) = (with_statements("then", 100), with_statements("then", 500));

    assert_eq!(statements(&told(&late, second(&early), &LOOK)), "200");
    assert_eq!(statements(&told(&early, second(&late), &LOOK)), "0");
}

#[test]
fn there_is_no_rate_over_a_restart() {
    let (old, new) = (with_statements("then", 5), with_statements("now", 7000));

    let shown = told(&new, Some(Before { status: &old, span: Duration::from_secs(1) }), &LOOK);

    assert!(shown.contains(" STMT ") && shown.contains("7.0k") && !shown.contains("STMT/S"), "{shown}");
}

#[test]
fn what_is_the_matter_stands_above_the_tables() {
    let text = status(
        "{\"started_at\":\"then\",\"state\":\"draining\",\"reasons\":[\"draining: no new\"],\
         \"config\":{\"last_error\":\"a fault\",\"needs_restart\":[\"admin\"]},\
         \"listeners\":[{\"name\":\"main\",\"why\":\"\\\"east\\\" is down\"},{\"name\":\"other\",\"why\":\"nearest\"}],\
         \"clusters\":[{\"endpoints\":[{\"name\":\"east\",\"reason\":\"refused\"}]}]}",
    );

    let shown = told(&text, None, &LOOK);

    let notes: Vec<_> = shown.lines().skip(1).take_while(|line| !line.is_empty()).collect();
    let expected = ["not ready: draining: no new", "last reload refused: a fault", "needs a restart: admin"];
    assert_eq!(notes, [&expected[..], &["main: \"east\" is down", "east: refused"]].concat());
}

#[test]
fn numbers_stay_short() {
    for (number, expected) in [
        (0, "0"),
        (999, "999"),
        (1000, "1.0k"),
        (9999, "9.9k"),
        (10_000, "10k"),
        (1_500_000, "1.5M"),
        (u64::MAX, "18446P"),
    ] {
        assert_eq!(short(number), expected);
    }
}

#[test]
fn sessions_that_are_not_shown_are_counted() {
    let sessions = vec!["{\"id\":1}"; SESSIONS_MAX + 2].join(",");
    let text = status(&format!(
        "{{\"started_at\":\"then\",\"state\":\"running\",\"listeners\":[],\"sessions\":[{sessions}],\
         \"sessions_left_out\":5}}"
    ));

    let shown = told(&text, None, &LOOK);

    assert!(shown.ends_with("\n7 more sessions\n"), "{shown}");
}
