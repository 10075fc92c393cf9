//! What is shown of a status, whatever it says.

use super::*;

const LOOK: Look = Look { width: Some(80), with_colours: false };
const WHOLE: Look = Look { width: None, with_colours: false };

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

/// With names as long as can be.
fn long() -> Status {
    let long = "n".repeat(63);
    status(&format!(
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
    ))
}

#[test]
fn at_a_terminal_all_of_it_fits_eighty_columns_however_long_the_names_are() {
    let text = long();
    for before in [None, Some(Before { status: &text.clone(), span: Duration::from_secs(1) })] {
        let shown = told(&text, before, &LOOK);

        // The reason is a word that is broken into two lines, below its title.
        assert_eq!(shown.lines().count(), 4 + 3 * 3, "{shown}");
        assert!(shown.contains("suspect, disabled ") && shown.contains("transaction "), "{shown}");
        for line in shown.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
}

#[test]
fn a_listener_is_shown_with_all_its_addresses_or_with_the_name_of_both_loopback_ones() {
    for (addresses, expected) in [
        (r#""127.0.0.1:26257","[::1]:26257""#, "localhost:26257"),
        (r#""127.0.0.1:1","[::1]:2""#, "127.0.0.1:1, [::1]:2"),
        (r#""127.0.0.1:1","10.1.2.3:1""#, "127.0.0.1:1, 10.1.2.3:1"),
        (r#""unix:/run/a/.s.PGSQL.26257""#, "unix:/run/a/.s.PGSQL.26257"),
    ] {
        let text = status(&format!(
            "{{\"started_at\":\"then\",\"state\":\"running\",\"listeners\":[{{\"name\":\"main\",\"addresses\":[{addresses}]}}]}}"
        ));

        let shown = told(&text, None, &WHOLE);

        let row = shown.lines().find_map(|line| line.strip_prefix("main")).unwrap_or_else(|| panic!("{shown}"));
        assert_eq!(row.trim_start().split("  ").next().unwrap().trim_end_matches(" -"), expected, "{shown}");
    }
}

#[test]
fn where_there_is_no_terminal_nothing_is_cut_or_wrapped() {
    let shown = told(&long(), None, &WHOLE);

    assert_eq!(shown.lines().count(), 2 + 3 * 3, "{shown}");
    let long = "n".repeat(63);
    for piece in [format!("not ready: {long}{long}\n"), format!("unix:/{long}{long} "), format!("{long}.{long} ")] {
        assert!(shown.contains(&piece), "{piece} is not in {shown}");
    }
    assert!(shown.contains("suspect, disabled ") && !shown.contains('…'), "{shown}");
}

#[test]
fn sentences_are_broken_at_blanks_and_words_only_where_they_must_be() {
    for (text, width, expected) in [
        ("one two three", Some(7), "one two\n> three"),
        ("one two three", Some(80), "one two three"),
        ("one two three", None, "one two three"),
        ("1234567890abcd", Some(6), "123456\n> 7890\n> abcd"),
        ("a 1234567890", Some(6), "a\n> 1234\n> 5678\n> 90"),
        ("größere Töne", Some(7), "größere\n> Töne"),
        ("", Some(1), ""),
        ("ab", Some(1), "a\n> b"),
    ] {
        assert_eq!(wrapped(text, "> ", width), expected, "{text:?} in {width:?}");
    }
}

/// With so many refusals, the newest first, one a minute.
fn refused(hint: &str) -> Status {
    let refusal = |minute: u64, count: u64| {
        format!(
            "{{\"at\":\"2026-01-31T09:0{minute}:00.000Z\",\"listener\":\"main\",\"sqlstate\":\"0800{minute}\",\
             \"message\":\"endpoint \\\"east\\\" is unreachable: no answer within 4 s, which is a long time to wait\",\
             \"hint\":{hint},\"count\":{count}}}"
        )
    };
    let refusals = [refusal(7, 3), refusal(6, 1), refusal(5, 1), refusal(4, 1)].join(",");
    status(&format!(
        "{{\"started_at\":\"then\",\"now\":\"2026-01-31T09:07:59.500Z\",\"state\":\"running\",\"listeners\":[],\
         \"refusals\":[{refusals}]}}"
    ))
}

#[test]
fn the_last_three_refusals_stand_below_with_their_hints() {
    let text = refused("\"Look at the allowlist.\"");

    let shown = told(&text, None, &LOOK);

    let lines: Vec<_> = shown.lines().skip_while(|line| *line != "LAST REFUSALS").skip(1).collect();
    let expected = [
        "08007  3 times, last 59s ago, at main: endpoint \"east\" is unreachable: no answer",
        "       within 4 s, which is a long time to wait",
        "       Look at the allowlist.",
    ];
    assert_eq!(lines[..3], expected);
    assert!(lines[3].starts_with("08006  once, 1min ago, at main: endpoint"), "{shown}");
    assert_eq!(lines.len(), 9, "{shown}");
    let whole = told(&text, None, &WHOLE);
    assert!(whole.contains("no answer within 4 s, which is a long time to wait\n       Look at"), "{whole}");
}

#[test]
fn a_hint_that_would_fill_the_terminal_is_left_out_there() {
    let hint = "x".repeat(HINT_LETTERS_MAX + 1);
    let text = refused(&format!("\"{hint}\""));

    assert!(!told(&text, None, &LOOK).contains("xxx"));
    assert_eq!(told(&text, None, &WHOLE).matches(&hint).count(), REFUSALS_MAX);
    assert!(!told(&refused("null"), None, &WHOLE).contains("null"));
}

#[test]
fn an_endpoint_says_how_old_its_state_is() {
    let shown = |tried_at: &str| {
        let text = status(&format!(
            "{{\"started_at\":\"then\",\"now\":\"2026-01-31T09:00:00Z\",\"state\":\"running\",\"listeners\":[],\
             \"clusters\":[{{\"name\":\"c\",\"endpoints\":[{{\"name\":\"e\",\"host\":\"h\",\"state\":\"well\",\
             \"tried_at\":{tried_at}}}]}}]}}"
        ));
        let shown = told(&text, None, &LOOK);
        assert!(shown.contains(" TRIED "), "{shown}");
        shown.lines().last().unwrap().split_whitespace().nth(4).unwrap().to_owned()
    };

    for (tried_at, expected) in [
        ("\"2026-01-31T08:59:01Z\"", "59s"),
        ("\"2026-01-31T08:00:01Z\"", "59min"),
        ("\"2026-01-31T07:00:00Z\"", "2h"),
        ("\"2026-01-01T09:00:00Z\"", "30d"),
        ("\"2026-01-31T09:00:01Z\"", "0s"),
        ("\"some day\"", "-"),
        ("null", "-"),
    ] {
        assert_eq!(shown(tried_at), expected, "{tried_at}");
    }
}

#[test]
fn nothing_that_a_client_says_reaches_the_terminal_as_it_is() {
    let hostile = "\\u001b[2J\\u009b31m\\n\\u202ex";
    let text = status(&format!(
        "{{\"started_at\":\"{hostile}{hostile}\",\"version\":\"{hostile}\",\"state\":\"{hostile}\",\
         \"reasons\":[\"{hostile}\"],\"config\":{{\"last_error\":\"{hostile}\",\"needs_restart\":[\"{hostile}\"]}},\
         \"listeners\":[{{\"name\":\"{hostile}\"}}],\"clusters\":[{{\"name\":\"{hostile}\",\
         \"secret\":{{\"error\":\"{hostile}\",\"read_at\":\"{hostile}\"}},\
         \"endpoints\":[{{\"name\":\"{hostile}\",\"reason\":\"{hostile}\",\"tried_at\":\"{hostile}\"}}]}}],\
         \"refusals\":[{{\"at\":\"{hostile}\",\"listener\":\"{hostile}\",\"sqlstate\":\"{hostile}\",\
         \"message\":\"{hostile}\",\"hint\":\"{hostile}\",\"count\":1}}],\
         \"sessions\":[{{\"application_name\":\"{hostile}\",\"database\":\"{hostile}\",\"client\":\"{hostile}\"}}]}}"
    ));

    for look in [LOOK, WHOLE] {
        let shown = told(&text, None, &look);

        let unprintable = |letter: char| (letter.is_control() && letter != '\n') || letter == '\u{202e}';
        assert!(!shown.contains(unprintable), "{shown:?}");
    }
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
         \"clusters\":[{\"name\":\"prod\",\"secret\":{\"error\":\"file a is gone\",\"read_at\":\"then\"},\
         \"endpoints\":[{\"name\":\"east\",\"reason\":\"refused\"}]},\
         {\"name\":\"new\",\"secret\":{\"error\":\"variable B is not set\",\"read_at\":null}}]}",
    );

    let shown = told(&text, None, &LOOK);

    let notes: Vec<_> = shown.lines().skip(1).take_while(|line| !line.is_empty()).collect();
    let expected = [
        "not ready: draining: no new",
        "last reload refused: a fault",
        "secret of prod: file a is gone (the one read at then stays in use)",
        "secret of new: variable B is not set",
        "needs a restart: admin",
        "main: \"east\" is down",
        "east: refused",
    ];
    assert_eq!(notes, expected);
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
