use super::*;

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    crate::wire::messages::frame(kind, body)
}

struct Talk {
    conversation: Conversation,
    errors: Vec<String>,
}

impl Talk {
    fn new() -> Self {
        Self { conversation: Conversation::after_login(), errors: Vec::new() }
    }

    fn client(&mut self, kinds: &str) -> &mut Self {
        for kind in kinds.bytes() {
            self.conversation.follow_client(&message(kind, b"")).unwrap();
        }
        self
    }

    /// `I`, `T` and `E` behind `Z` are its state.
    fn server(&mut self, kinds: &str) -> &mut Self {
        let mut kinds = kinds.bytes();
        while let Some(kind) = kinds.next() {
            let body = match kind {
                b'Z' => vec![kinds.next().unwrap()],
                b'E' => b"SERROR\0VERROR\0C23505\0Mtwice\0\0".to_vec(),
                _ => Vec::new(),
            };
            let errors = &mut self.errors;
            let mut on_error = |code: SqlState| errors.push(code.to_string());
            self.conversation.follow_server(&message(kind, &body), &mut on_error).unwrap();
        }
        self
    }

    fn is_idle(&self) -> bool {
        self.conversation.is_idle()
    }

    fn is_owed(&self) -> bool {
        self.conversation.is_answer_owed()
    }
}

#[test]
fn a_simple_query_is_owed_until_ready_for_query() {
    let mut talk = Talk::new();
    assert!(talk.is_idle());

    assert!(!talk.client("Q").is_idle());
    assert!(talk.is_owed());
    assert!(!talk.server("TDC").is_idle());
    assert!(talk.server("ZI").is_idle());
    assert!(!talk.is_owed());
    assert_eq!(talk.conversation.statements(), 1);
}

#[test]
fn a_transaction_is_no_idle_point() {
    let mut talk = Talk::new();

    assert!(!talk.client("Q").server("CZT").is_idle());
    assert_eq!(talk.conversation.activity(), Activity::Transaction);
    assert!(!talk.client("Q").server("EZE").is_idle());
    assert_eq!(talk.conversation.activity(), Activity::Failed);
    assert!(talk.client("Q").server("CZI").is_idle());
    assert_eq!(talk.errors, ["23505"]);
}

#[test]
fn a_pipeline_is_owed_to_its_last_answer() {
    let mut talk = Talk::new();
    for _ in 0..10_000 {
        talk.client("PBES");
    }

    for i in 1..=10_000 {
        talk.server("12CZI");
        assert_eq!(talk.is_idle(), i == 10_000);
    }
}

#[test]
fn messages_behind_the_last_sync_keep_the_session_busy() {
    let mut talk = Talk::new();

    assert!(!talk.client("PBESPB").server("12CZI").is_idle());
    assert!(!talk.client("H").server("12").is_idle());
    assert!(talk.client("S").server("ZI").is_idle());
}

#[test]
fn asynchronous_messages_leave_an_idle_point_alone() {
    let mut talk = Talk::new();

    assert!(talk.server("NSA").is_idle());
    assert!(talk.client("Q").server("NCZISA").is_idle());
}

#[test]
fn a_simple_copy_in_is_answered_once() {
    let mut talk = Talk::new();

    talk.client("Q").server("G");
    assert!(!talk.is_owed(), "the server waits for the client");
    assert_eq!(talk.conversation.activity(), Activity::Copy);
    talk.client("ddc");
    assert!(talk.is_owed());
    assert!(talk.server("CZI").is_idle());
}

#[test]
fn libpqs_extended_copy_sends_two_syncs_for_one_answer() {
    let mut talk = Talk::new();

    talk.client("PBDES").server("12nG").client("ddcS");
    assert!(talk.is_owed());
    assert!(talk.server("CZI").is_idle());
    assert!(!talk.is_owed());
}

#[test]
fn a_copy_without_a_sync_before_it_is_answered_by_the_one_behind_it() {
    let mut talk = Talk::new();

    assert!(talk.client("BE").server("2G").client("dcS").server("CZI").is_idle());
}

#[test]
fn a_client_that_does_not_wait_for_copy_in_response_is_answered_too() {
    let mut talk = Talk::new();

    assert!(!talk.client("PBEdcS").server("12G").is_idle());
    assert!(talk.is_owed());
    assert!(talk.server("CZI").is_idle());

    assert!(!talk.client("QdcQ").server("GCZI").is_idle());
    assert!(talk.server("CZI").is_idle());
}

#[test]
fn a_copy_that_fails_early_is_answered_by_the_sync_behind_copy_done() {
    let mut talk = Talk::new();

    assert!(!talk.client("PBES").server("12G").client("d").server("E").is_idle());
    assert!(talk.client("cS").server("ZI").is_idle());
    assert!(talk.client("Q").server("CZI").is_idle());
}

#[test]
fn a_simple_copy_that_fails_early_does_not_confuse_what_follows() {
    let mut talk = Talk::new();

    assert!(talk.client("Q").server("G").client("d").server("EZI").is_idle());
    assert!(talk.client("c").is_idle());
    assert!(!talk.client("PBES").server("12G").client("ddcS").is_idle());
    assert!(talk.server("CZI").is_idle());
}

#[test]
fn a_copy_done_behind_the_error_that_ended_its_copy_leaves_nothing_behind() {
    let mut talk = Talk::new();

    assert!(talk.client("Q").server("G").client("d").server("E").client("c").server("ZI").is_idle());
    assert!(!talk.client("PBES").server("12G").is_idle());
    assert!(talk.client("ddcS").server("CZI").is_idle());
}

#[test]
fn a_replication_stream_that_ends_leaves_an_idle_session() {
    let mut talk = Talk::new();

    assert!(!talk.client("Q").server("Wdd").client("dd").is_idle());
    assert!(talk.client("c").server("cCCZI").is_idle());
    assert!(!talk.client("PBES").server("12G").client("ddcS").is_idle());
    assert!(talk.server("CZI").is_idle());
}

#[test]
fn a_password_that_nobody_asked_for_is_refused_and_not_passed_on() {
    let error = Conversation::after_login().follow_client(&message(b'p', b"secret\0")).unwrap_err();

    assert_eq!(error.sound_bytes, Some(0));
}

#[test]
fn a_sync_inside_a_copy_that_fails_is_never_called_idle() {
    let mut talk = Talk::new();

    assert!(!talk.client("PBES").server("12G").client("S").server("EZI").is_idle());
}

#[test]
fn more_changes_in_flight_than_are_remembered_are_never_called_idle() {
    let mut talk = Talk::new();
    for _ in 0..100 {
        talk.client("QS");
    }
    for _ in 0..200 {
        talk.server("CZI");
    }

    assert!(!talk.is_idle());
}

#[test]
fn half_a_message_of_either_side_is_no_idle_point() {
    let mut talk = Talk::new();
    let _ = talk.conversation.follow_client(b"d\0\0");
    assert!(!talk.is_idle());
    assert!(!talk.conversation.server_can_read_a_message());

    let mut talk = Talk::new();
    let _ = talk.conversation.follow_server(b"N\0\0\0\x09ab", &mut |_| ());
    assert!(!talk.is_idle());
    assert!(!talk.conversation.client_can_read_a_message());
}

#[test]
fn severity_and_code_are_read_from_a_body_in_pieces() {
    let fatal = message(b'E', b"SFATAL\0VFATAL\0C57P01\0Mgoing\0\0");
    for size in 1..fatal.len() {
        let mut conversation = Conversation::after_login();
        let mut codes = Vec::new();
        for piece in fatal.chunks(size) {
            conversation.follow_server(piece, &mut |code| codes.push(code)).unwrap();
        }
        assert!(conversation.server_said_fatal());
        assert_eq!(codes, [SqlState::ADMIN_SHUTDOWN]);
    }
}

#[test]
fn a_named_statement_is_noticed_and_an_unnamed_one_is_not() {
    let mut conversation = Conversation::after_login();
    conversation.follow_client(&message(b'P', b"\0select 1\0\0\0")).unwrap();
    assert!(!conversation.has_named_statement());

    conversation.follow_client(&message(b'P', b"s1\0select 1\0\0\0")).unwrap();
    assert!(conversation.has_named_statement());
}

#[test]
fn a_ready_for_query_of_another_size_is_refused() {
    let error = Conversation::after_login().follow_server(b"Z\0\0\0\x06II", &mut |_| ()).unwrap_err();

    assert_eq!(error.sound_bytes, Some(0));
}

#[test]
fn a_session_is_plain_until_it_sends_more_than_simple_queries_or_opens_a_copy() {
    let mut plain = Talk::new();
    plain.client("QQ").server("TDCZINAES").server("ZI");
    assert!(plain.is_idle() && plain.conversation.was_plain());

    for kind in "FPBDEHSCcdfp?".chars() {
        let mut talk = Talk::new();
        let _ = talk.conversation.follow_client(&message(kind as u8, b""));
        assert!(!talk.conversation.was_plain(), "{kind}");
    }
    for kind in ["G", "H", "W"] {
        assert!(!Talk::new().client("Q").server(kind).conversation.was_plain(), "{kind}");
    }
}

#[test]
fn a_server_that_sends_what_is_no_message_is_never_idle_again() {
    for malformed in [&b"Z\0\0\0\x06II"[..], b"D\0\0\0\0"] {
        let mut talk = Talk::new();

        assert!(talk.conversation.follow_server(malformed, &mut |_| ()).is_err());

        assert!(!talk.is_idle(), "{malformed:?}");
    }
}

#[test]
fn whatever_stands_between_two_syncs_behind_a_copy_leaves_the_session_uncertain() {
    // The server takes the Parse for the end of the COPY, and then still has a Sync to answer.
    let mut simple = Talk::new();
    assert!(!simple.client("QSPS").server("G").server("EZI").is_idle());

    let mut extended = Talk::new();
    assert!(!extended.client("PBESPS").server("12G").server("EZI").is_idle());
}

#[test]
fn queries_behind_one_that_turns_out_to_copy_leave_the_session_uncertain() {
    // The server takes the second query for the end of the COPY, and then still has a Sync to answer.
    let mut talk = Talk::new();
    assert!(!talk.client("QQQSS").server("G").server("EZI").server("CZI").server("ZI").is_idle());

    let mut extended = Talk::new();
    assert!(!extended.client("PBESQS").server("12G").server("EZI").server("ZI").is_idle());

    let mut waits = Talk::new();
    assert!(
        waits.client("QQ").server("CZI").server("G").client("dc").server("CZI").is_idle(),
        "the copying one is alone"
    );
    let mut ahead = Talk::new();
    assert!(ahead.client("QdcQ").server("GCZI").server("CZI").is_idle(), "its end was sent before");
}
