//! What connection strings mean, and that no text at all makes the parser panic.

use super::*;

fn read(text: &str) -> ConnectionString {
    parse(text).unwrap_or_else(|faults| panic!("{text}: {faults:?}"))
}

fn refused(text: &str) -> String {
    match parse(text) {
        Ok(read) => panic!("{text} was taken: {read:?}"),
        Err(faults) => faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
    }
}

fn password(text: &str) -> Option<String> {
    read(text).password.map(|secret| String::from_utf8(secret.expose().to_vec()).unwrap())
}

#[test]
fn the_consoles_string_is_understood() {
    let read = read(
        "postgresql://app:pw@prod-abc.gcp-us-east1.cockroachlabs.cloud:26257/defaultdb?sslmode=verify-full\
         &sslrootcert=$HOME/Library/CockroachCloud/certs/prod-ca.crt",
    );

    assert_eq!(read.user.as_deref(), Some("app"));
    assert_eq!(read.password, Some(Secret::new(b"pw".to_vec())));
    assert_eq!(read.host, "prod-abc.gcp-us-east1.cockroachlabs.cloud");
    assert_eq!(read.port, Some(26257));
    assert_eq!(read.database.as_deref(), Some("defaultdb"));
    let ca = "$HOME/Library/CockroachCloud/certs/prod-ca.crt".to_owned();
    assert_eq!(read.root_certificate, Some(RootCertificate::File(ca)));
}

#[test]
fn all_parts_but_the_host_may_be_left_out() {
    for text in ["postgres://h", "postgresql://h/", "postgresql://@h:", " postgresql://h/?\n"] {
        assert_eq!(read(text), ConnectionString::of_host("h"), "{text}");
    }
    assert_eq!(read("postgresql://[::1]:5/d").host, "::1");
}

#[test]
fn passwords_are_taken_encoded_in_place_or_as_a_parameter() {
    assert_eq!(password("postgresql://a:p%40s%3as%21@h/d").as_deref(), Some("p@s:s!"));
    assert_eq!(password("postgresql://a@h/d?password=p%40s%26").as_deref(), Some("p@s&"));
    assert_eq!(password("postgresql://a@h/d?password=a+b").as_deref(), Some("a+b"));
    assert_eq!(password("postgresql://a@h/d?password=p@s/w:d").as_deref(), Some("p@s/w:d"));
}

#[test]
fn unencoded_passwords_are_taken_where_one_reading_is_possible() {
    let expected = [
        ("postgresql://a:p@ss@h/d", "p@ss"),
        ("postgresql://a:p:ss@h/d", "p:ss"),
        ("postgresql://a:p/ss@h/d", "p/ss"),
        ("postgresql://a:12/34@h/d", "12/34"),
        ("postgresql://a:p#ss@h/d", "p#ss"),
        ("postgresql://a:p?ss@h/d", "p?ss"),
        ("postgresql://a:100%@h/d", "100%"),
        ("postgresql://a:@@@h/d", "@@"),
        ("postgresql://a:p@h,x@h/d", "p@h,x"),
    ];
    for (text, expected) in expected {
        assert_eq!(password(text).as_deref(), Some(expected), "{text}");
        assert_eq!(read(text).host, "h", "{text}");
    }
}

#[test]
fn two_possible_readings_are_refused_with_what_to_do() {
    let ambiguous = [
        // The host could be `h` or `there`.
        "postgresql://a:hunter2@h:26257/d?application_name=me@there",
        // The password could be `hunter2@h?x`, for the host `there`.
        "postgresql://a:hunter2@h?x@there",
        // `a` could be the host and 12 its port.
        "postgresql://a:12?hunter2=1@h",
        // %41 could be `A`, or not encoded as the rest is not.
        "postgresql://a:hunter2@%41@h/d",
        "postgresql://a:hunter2%%41@h/d",
        "postgresql://a@h/d?password=hunter2%zz%41",
    ];
    for text in ambiguous {
        let said = refused(text);

        assert!(said.contains("read in two ways"), "{text}: {said}");
        assert!(said.contains("%40") && said.contains("--password-file"), "{text}: {said}");
        assert!(!said.contains("hunter2"), "{text}: {said}");
    }
}

#[test]
fn modes_weaker_than_verify_full_are_refused_with_a_reason() {
    for mode in ["disable", "allow", "prefer", "require", "verify-ca"] {
        let said = refused(&format!("postgresql://a@h/d?sslmode={mode}"));

        assert!(said.contains("weaker than verify-full, so"), "{said}");
    }
    assert!(refused("postgresql://a@h?sslmode=full").contains("must be verify-full"));
    assert_eq!(read("postgresql://h?sslmode=verify-full"), ConnectionString::of_host("h"));
}

#[test]
fn certificates_are_paths_the_system_or_inline() {
    let ca = |text| read(text).root_certificate;

    assert_eq!(ca("postgresql://h?sslrootcert=system"), Some(RootCertificate::System));
    let pem = "-----BEGIN CERTIFICATE-----\nMA+/=\n-----END CERTIFICATE-----\n";
    let inline = format!("postgresql://h?sslinline=true&sslrootcert={}", encoded(pem.as_bytes()));
    assert_eq!(ca(&inline), Some(RootCertificate::Inline(pem.to_owned())));
    let without = format!("postgresql://h?sslrootcert={}", encoded(pem.as_bytes()));
    assert!(refused(&without).contains("sslinline=true"));
    assert!(refused("postgresql://h?sslinline=true&sslrootcert=ca.crt").contains("PEM"));
    assert!(refused("postgresql://h?sslinline=true&sslcert=x&sslkey=y").contains("--cert-file"));
    let files = read("postgresql://h?sslcert=c.crt&sslkey=c.key");
    assert_eq!((files.cert.as_deref(), files.key.as_deref()), (Some("c.crt"), Some("c.key")));
}

#[test]
fn parameters_of_the_session_are_kept_under_the_servers_names() {
    let read = read("postgresql://h?ApplicationName=x%20y&options=-c%20a%3Db&results_buffer_size=1");

    let expected = [("application_name", "x y"), ("options", "-c a=b"), ("results_buffer_size", "1")];
    let expected: Vec<_> = expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    assert_eq!(read.session_parameters, expected);
}

#[test]
fn what_only_tunes_libpq_is_kept_by_name() {
    let read = read("postgresql://h?connect_timeout=3&gssencmode=disable&target_session_attrs=any");

    assert_eq!(read.without_effect, ["connect_timeout", "gssencmode", "target_session_attrs"]);
}

#[test]
fn everything_else_is_refused_all_at_once() {
    let said = refused("postgresql://%ff:x@h:0/%00?sslmod=x&sslcrl=y&options=a&options=b&novalue");

    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 7, "{said}");
    assert!(lines[0].starts_with("connection string: user: is not UTF-8"), "{said}");
    assert!(lines[1].starts_with("connection string: database: contains a NUL"), "{said}");
    assert!(lines[2].starts_with("connection string: port: must be a number"), "{said}");
    assert!(lines[3].contains("parameter 1: no known parameter (did you mean sslmode?)"), "{said}");
    assert!(lines[4].contains("sslcrl: not supported"), "{said}");
    assert!(lines[5].contains("options: given twice"), "{said}");
    assert!(lines[6].contains("parameter 5: has no value"), "{said}");
}

#[test]
fn an_unknown_parameter_is_named_only_where_it_cannot_be_part_of_a_password() {
    assert!(refused("postgresql://a@h?frob=1").contains("frob"));
    assert!(!refused("postgresql://a@h?password=x&frob=1").contains("frob"));
    assert!(!refused("postgresql://a:x@h?frob=1").contains("frob"));
    assert!(!refused(&format!("postgresql://a@h?{}=1", "x".repeat(65))).contains("xx"));
    for hidden in [
        // Two strings in one, the second with a password.
        "postgresql://a@h?postgresql://a:hunter2@h?sslmode=verify-full",
        "postgresql://a@h?postgresql://a:x&hunter2=x@h?sslmode=verify-full",
        "postgresql://a@h/d?sslmode=verify-fullpostgresql://a:x&hunter2=x@h/d",
        // Passwords with a ? in them, before what is no host.
        "postgresql://a:7?hunter2=x@h1,h2/d",
        "postgresql://a:?hunter2=x@:26257/d",
        // One that cannot be read.
        "postgresql://a:%41%z@h?hunter2=1",
        "postgresql://a@h?sslpassword=x&hunter2=x",
    ] {
        let said = refused(hidden);
        assert!(!said.contains("hunter2"), "{hidden}: {said}");
    }
}

#[test]
fn strings_without_a_usable_host_say_so() {
    assert!(refused("postgresql://").contains("names no host"));
    assert!(refused("postgresql://a:b@/d").contains("names no host"));
    assert!(refused("postgresql://a@:5/d").contains("names no host"));
    assert!(refused("postgresql://a@h1,h2:5/d").contains("several hosts"));
    assert!(refused("postgresql://%2Frun%2Fx/d").contains("Unix socket"));
    assert!(refused("postgresql://a@h:hunter2/d").contains("cannot be read"));
    assert!(refused("jdbc:postgresql://h/d").contains("JDBC"));
    assert!(refused("mysql://h/d").contains("postgresql://"));
    assert!(refused("host=h user=a").contains("no connection string"));
    assert!(refused("postgresql://h/d?host=x").contains("before the path"));
    assert!(refused(&format!("postgresql://{}", "h".repeat(70_000))).contains("64 KiB"));
}

#[test]
fn a_user_or_password_given_twice_is_refused() {
    assert!(refused("postgresql://a:b@h?password=c").contains("once"));
    assert!(refused("postgresql://a@h?user=c").contains("once"));
}

/// A generator with a fixed seed: failures can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % bound
    }

    fn text(&mut self, pieces: &[&str], most: usize) -> String {
        (0..self.below(most + 1)).map(|_| pieces[self.below(pieces.len())]).collect()
    }

    fn maybe(&mut self, pieces: &[&str]) -> Option<String> {
        Some(self.text(pieces, 8)).filter(|text| !text.is_empty())
    }
}

const PIECES: &[&str] = &[
    "a",
    "b",
    "1",
    "26257",
    "h.x",
    "@",
    ":",
    "/",
    "?",
    "#",
    "%",
    "%4",
    "%41",
    "%00",
    "%ff",
    "[",
    "]",
    "::1",
    "&",
    "=",
    "+",
    " ",
    "é",
    "\u{1f980}",
    "\n",
    ",",
    "password=",
    "sslmode=",
    "sslrootcert=",
    "sslinline=true",
    "options=",
    "-----BEGIN",
    "postgresql://",
    "\\",
    "\"",
    "'",
    ".",
    "-",
    "_",
    "~",
];

#[test]
fn no_text_makes_the_parser_panic_and_what_it_takes_survives_export() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut taken = 0;
    for _ in 0..200_000 {
        let text = format!("postgresql://{}", random.text(PIECES, 12));
        if let Ok(read) = parse(&text) {
            taken += 1;
            let without_effect = read.without_effect.clone();
            let again = parse(&read.export()).unwrap_or_else(|e| panic!("{text}: {e:?}"));
            assert_eq!(ConnectionString { without_effect, ..again }, read, "{text}");
        }
        let _ = parse(&random.text(PIECES, 12));
    }
    assert!(taken > 1000, "only {taken} strings were taken, so this proves little");
}

#[test]
fn any_parts_survive_export_and_import() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for _ in 0..20_000 {
        let mut written = ConnectionString::of_host(["h", "a.b-c_d", "::1", "10.0.0.1"][random.below(4)]);
        written.user = random.maybe(PIECES).map(|user| user.replace('\0', ""));
        written.password = random.maybe(PIECES).map(|text| Secret::new(text.into_bytes()));
        written.port = [None, Some(1), Some(26257), Some(65535)][random.below(4)];
        written.database = random.maybe(PIECES);
        written.cert = random.maybe(PIECES);
        written.key = random.maybe(PIECES);
        let methods = [AuthMethod::Scram, AuthMethod::Password, AuthMethod::Nothing];
        written.require_auth = methods.get(..random.below(4)).filter(|some| !some.is_empty()).map(<[_]>::to_vec);
        let options = random.maybe(PIECES).map(|text| ("options".to_owned(), text));
        written.session_parameters.extend(options);

        let text = written.export();

        assert_eq!(parse(&text), Ok(written), "{}", &*text);
    }
}

#[test]
fn hostile_length_costs_linear_time() {
    for piece in ["@", "@[", "a:@", "%", "&", "?@", "a@/", ":", "password=&"] {
        let _ = parse(&format!("postgresql://a:{}", piece.repeat(60_000 / piece.len())));
    }
}
