//! The server's side of a SCRAM exchange: how a listener checks its local password.
//!
//! Any user name is accepted, since the cluster's user replaces it; channel binding is never
//! offered. An error tells a client nothing but that it failed; the caller words it.

use super::{
    ScramError, ScramKeys,
    crypto::{self, Key},
    message::{self, Attributes},
};
use crate::secret::Secret;
use base64::{Engine, engine::general_purpose::STANDARD};
use std::{fmt, num::NonZero, sync::Arc};
use zeroize::Zeroizing;

/// What is kept of a local password: prints as `***`, wiped when dropped.
pub struct Verifier {
    iterations: NonZero<u32>,
    salt: Vec<u8>,
    stored: Key,
    server: Key,
}

impl Verifier {
    /// Reads a verifier as PostgreSQL stores it, or derives one from a password, with a random salt
    /// and 4 096 iterations, off the event loop.
    ///
    /// # Errors
    /// A text that begins as a verifier and is none: it was hardly meant as a password.
    ///
    /// Cancel safety: a derivation that has begun goes on unheard.
    pub async fn of(secret: Arc<Secret>) -> Result<Self, ScramError> {
        if secret.expose().starts_with(PREFIX) {
            return Self::parse(secret.expose());
        }
        let salt = crypto::random::<SALT_BYTES>()?.to_vec();
        let keys = ScramKeys::derive_off_loop(secret, salt.clone(), ITERATIONS).await?;
        Ok(Self { iterations: ITERATIONS, salt, stored: keys.stored, server: keys.server })
    }

    /// Derives one from a password, with a random salt. Costs 1 ms of a core for each few thousand iterations.
    ///
    /// # Errors
    /// When there are no random bytes.
    pub fn derive(password: &[u8], iterations: NonZero<u32>) -> Result<Self, ScramError> {
        let salt = crypto::random::<SALT_BYTES>()?.to_vec();
        let keys = ScramKeys::derive(password, &salt, iterations);
        Ok(Self { iterations, salt, stored: keys.stored, server: keys.server })
    }

    /// One that looks the same to a client, and that no password passes.
    ///
    /// # Errors
    /// When there are no random bytes.
    pub fn decoy(&self) -> Result<Self, ScramError> {
        let key = || crypto::random().map(Zeroizing::new);
        Ok(Self { iterations: self.iterations, salt: self.salt.clone(), stored: key()?, server: key()? })
    }

    /// Reads `SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY`.
    ///
    /// # Errors
    /// Names the part that is wrong, never its text.
    pub fn parse(text: &[u8]) -> Result<Self, ScramError> {
        let wrong = ScramError::Verifier;
        let rest = text.strip_prefix(PREFIX).ok_or(wrong("it has another beginning"))?;
        let (iterations, rest) = cut(rest, b':').ok_or(wrong("its salt is missing"))?;
        let (salt, rest) = cut(rest, b'$').ok_or(wrong("its keys are missing"))?;
        let (stored, server) = cut(rest, b':').ok_or(wrong("its server key is missing"))?;
        let iterations = message::count(iterations).and_then(NonZero::new);
        let salt = message::base64(salt, "").ok().filter(|salt| !salt.is_empty());
        let key = |value| message::key(value, "").map(Zeroizing::new).ok();
        Ok(Self {
            iterations: iterations.ok_or(wrong("its iteration count is not a number"))?,
            salt: salt
                .filter(|salt| salt.len() <= SALT_BYTES_MAX)
                .ok_or(wrong("its salt is not base64 of a fitting length"))?,
            stored: key(stored).ok_or(wrong("its stored key is not base64 of 32 bytes"))?,
            server: key(server).ok_or(wrong("its server key is not base64 of 32 bytes"))?,
        })
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// An exchange that waits for the client's first message.
#[derive(Debug)]
pub struct ServerExchange(Arc<Verifier>);

impl ServerExchange {
    /// One exchange, for one client.
    pub fn new(verifier: Arc<Verifier>) -> Self {
        Self(verifier)
    }

    /// Reads the client-first-message and gives the server-first-message.
    ///
    /// # Errors
    /// Refuses channel binding, authorization identities, mandatory extensions, and anything that
    /// breaks the grammar.
    pub fn client_first(self, message: &[u8]) -> Result<(Vec<u8>, AwaitsProof), ScramError> {
        let nonce = crypto::nonce()?;
        self.answer(message, &nonce)
    }

    fn answer(self, message: &[u8], nonce: &str) -> Result<(Vec<u8>, AwaitsProof), ScramError> {
        let (header, bare) = split_header(message)?;
        let mut attributes = Attributes::of(bare)?;
        attributes.take(b'n', "no user name")?;
        let client_nonce = message::printable(attributes.take(b'r', "no nonce")?, "its nonce")?;
        attributes.end()?;
        let verifier = self.0;
        let nonce = format!("{client_nonce}{nonce}");
        let salt = STANDARD.encode(&verifier.salt);
        let server_first = format!("r={nonce},s={salt},i={}", verifier.iterations);
        let mut signed = bare.to_vec();
        signed.push(b',');
        signed.extend(server_first.as_bytes());
        let state = AwaitsProof { verifier, header: header.to_vec(), nonce, signed };
        Ok((server_first.into_bytes(), state))
    }
}

/// An exchange that waits for the client's proof.
#[derive(Debug)]
pub struct AwaitsProof {
    verifier: Arc<Verifier>,
    header: Vec<u8>,
    nonce: String,
    signed: Vec<u8>,
}

impl AwaitsProof {
    /// Reads the client-final-message; the proof is compared in constant time. Gives the
    /// server-final-message for a client that knows the password.
    ///
    /// # Errors
    /// [`ScramError::WrongPassword`], or what is wrong with the message.
    pub fn client_final(mut self, message: &[u8]) -> Result<Vec<u8>, ScramError> {
        // The proof stands last and signs all that stands before it, extensions included.
        let mark = message.windows(PROOF.len()).rposition(|window| window == PROOF);
        let (unsigned, proof) =
            mark.and_then(|mark| message.split_at_checked(mark)).ok_or(ScramError::Malformed("no proof"))?;
        let mut attributes = Attributes::of(unsigned)?;
        let binding = attributes.take(b'c', "no channel binding")?;
        let binding = message::base64(binding, "its channel binding")?;
        let nonce = attributes.take(b'r', "no nonce")?;
        attributes.end()?;
        let proof = proof.strip_prefix(PROOF).unwrap_or_default();
        let proof = Zeroizing::new(message::key(proof, "its proof")?);
        if binding != self.header {
            return Err(ScramError::ChannelBindingChanged);
        }
        if nonce != self.nonce.as_bytes() {
            return Err(ScramError::Malformed("its nonce is not the one that was given"));
        }
        self.signed.push(b',');
        self.signed.extend(unsigned);
        let signature = crypto::sign(&self.verifier.stored, &self.signed);
        let stored = crypto::hash(&crypto::xor(&proof, &signature));
        if !crypto::equal(&stored, &self.verifier.stored) {
            return Err(ScramError::WrongPassword);
        }
        let signature = crypto::sign(&self.verifier.server, &self.signed);
        Ok(format!("v={}", STANDARD.encode(signature)).into_bytes())
    }
}

/// Splits `n,,` or `y,,` from the rest. `y` is the truth here: -PLUS is never offered.
fn split_header(message: &[u8]) -> Result<(&[u8], &[u8]), ScramError> {
    match message {
        [b'p', b'=', ..] => Err(ScramError::ChannelBindingNotOffered),
        [b'n' | b'y', b',', b'a', b'=', ..] => Err(ScramError::AuthorizationIdentity),
        [b'n' | b'y', b',', b',', bare @ ..] => {
            let header = message.get(..3).unwrap_or_default();
            Ok((header, bare))
        }
        _ => Err(ScramError::Malformed("no channel binding flag")),
    }
}

fn cut(text: &[u8], mark: u8) -> Option<(&[u8], &[u8])> {
    let mut parts = text.splitn(2, |byte| *byte == mark);
    Some((parts.next()?, parts.next()?))
}

const PREFIX: &[u8] = b"SCRAM-SHA-256$";
const PROOF: &[u8] = b",p=";

/// As PostgreSQL makes them.
const SALT_BYTES: usize = 16;
const ITERATIONS: NonZero<u32> = NonZero::new(crypto::ITERATIONS_MIN).unwrap();

/// So that a server-first-message stays small.
const SALT_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// What PostgreSQL stores for "pencil" with the salt of RFC 7677.
    fn rfc_7677() -> Arc<Verifier> {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let keys = ScramKeys::derive(b"pencil", &salt, ITERATIONS);
        let text = format!(
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==${}:{}",
            STANDARD.encode(keys.stored.as_slice()),
            STANDARD.encode(keys.server.as_slice())
        );
        Arc::new(Verifier::parse(text.as_bytes()).unwrap())
    }

    const FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";

    fn refuse_first(message: &[u8]) -> ScramError {
        ServerExchange::new(rfc_7677()).client_first(message).unwrap_err()
    }

    fn finish(message: &[u8]) -> Result<Vec<u8>, ScramError> {
        let (_, state) = ServerExchange::new(rfc_7677()).answer(FIRST, NONCE).unwrap();
        state.client_final(message)
    }

    const FINAL: &str =
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    #[test]
    fn the_exchange_of_rfc_7677_is_reproduced() {
        let (server_first, state) = ServerExchange::new(rfc_7677()).answer(FIRST, NONCE).unwrap();
        let expected = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        assert_eq!(String::from_utf8(server_first).unwrap(), expected);

        let server_final = state.client_final(FINAL.as_bytes()).unwrap();

        assert_eq!(server_final, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn any_user_name_is_accepted_and_every_nonce_is_new() {
        let first = |message: &[u8]| {
            let exchange = ServerExchange::new(rfc_7677());
            exchange.client_first(message).map(|(server_first, _)| server_first)
        };

        assert_ne!(first(FIRST).unwrap(), first(FIRST).unwrap());
        for message in [&b"y,,n=,r=abc"[..], b"n,,n=a=2Cb,r=abc", b"n,,n=\xFF\xFE,r=abc,x=1"] {
            assert!(first(message).unwrap().starts_with(b"r=abc"));
        }
    }

    #[test]
    fn channel_binding_and_foreign_identities_are_refused() {
        let plus = b"p=tls-server-end-point,,n=,r=abc";

        assert_eq!(refuse_first(plus), ScramError::ChannelBindingNotOffered);
        assert_eq!(refuse_first(b"n,a=root,n=,r=abc"), ScramError::AuthorizationIdentity);
        assert_eq!(refuse_first(b"n,,m=x,n=,r=abc"), ScramError::MandatoryExtension);
    }

    #[test]
    fn a_client_first_message_that_breaks_the_grammar_is_refused() {
        let huge = [b"n,,n=,r=".as_slice(), &[b'x'; 8192]].concat();
        for message in [
            &b""[..],
            b"n",
            b"n,",
            b"n,,",
            b"n,,n=",
            b"n,,n=,",
            b"n,,n=,r=",
            b"n,,r=abc",
            b"x,,n=,r=abc",
            b"n,,n=,r=\xFF",
            b"n,,n=,r=a b",
            b"n,,n=,r=abc,",
            b"n,,n=,r=abc,r=abc",
            b"n,,n=,n=,r=abc",
            b"n,x,n=,r=abc",
            b"\xFF\xFF",
            &huge,
        ] {
            let error = refuse_first(message);
            let shown = String::from_utf8_lossy(message);
            assert!(matches!(error, ScramError::Malformed(_)), "{shown}: {error:?}");
        }
    }

    #[test]
    fn a_wrong_proof_is_a_wrong_password() {
        let wrong = FINAL.replace("p=dHzb", "p=dHzc");

        assert_eq!(finish(wrong.as_bytes()), Err(ScramError::WrongPassword));
    }

    #[test]
    fn a_changed_channel_binding_flag_is_refused() {
        let changed = FINAL.replace("c=biws", "c=eSws");

        assert_eq!(finish(changed.as_bytes()), Err(ScramError::ChannelBindingChanged));
    }

    #[test]
    fn a_client_final_message_that_breaks_the_grammar_is_refused() {
        let huge = FINAL.replace(",p=", &format!(",x={},p=", "y".repeat(8192)));
        for message in [
            "",
            ",p=",
            "c=biws",
            "c=biws,p=AAAA",
            &FINAL.replace("c=biws,", ""),
            &FINAL.replace("r=rO", "r=sO"),
            &FINAL.replace("c=biws", "c=!"),
            &FINAL.replace("p=dHzb", "p=dHz"),
            &FINAL.replace("p=dHzb", "p=dHzbAAAA"),
            &FINAL.replace(",r=", ",r=,r="),
            &format!("{FINAL},x=1"),
            &format!("c=biws,{FINAL}"),
            &huge,
        ] {
            let error = finish(message.as_bytes()).unwrap_err();
            assert!(matches!(error, ScramError::Malformed(_)), "{message}: {error:?}");
        }
    }

    #[test]
    fn a_verifier_prints_as_three_stars() {
        assert_eq!(format!("{:?}", ServerExchange::new(rfc_7677())), "ServerExchange(***)");
    }

    #[tokio::test]
    async fn a_broken_verifier_is_refused_and_not_taken_as_a_password() {
        let key = STANDARD.encode([1; 32]);
        for (text, told) in [
            ("SCRAM-SHA-256$".to_owned(), "salt is missing"),
            ("SCRAM-SHA-256$4096:c2FsdA==".to_owned(), "keys are missing"),
            (format!("SCRAM-SHA-256$4096:c2FsdA==${key}"), "server key is missing"),
            (format!("SCRAM-SHA-256$0:c2FsdA==${key}:{key}"), "iteration count"),
            (format!("SCRAM-SHA-256$x:c2FsdA==${key}:{key}"), "iteration count"),
            (format!("SCRAM-SHA-256$4096:!${key}:{key}"), "salt is not base64"),
            (format!("SCRAM-SHA-256$4096:${key}:{key}"), "salt is not base64"),
            (format!("SCRAM-SHA-256$4096:c2FsdA==$AAAA:{key}"), "stored key"),
            (format!("SCRAM-SHA-256$4096:c2FsdA==${key}:{key}:"), "server key is not"),
        ] {
            let secret = Arc::new(Secret::new(text.clone().into_bytes()));

            let error = Verifier::of(secret).await.unwrap_err().to_string();

            assert!(error.contains(told), "{text}: {error}");
            assert!(!error.contains(&key), "{error}");
        }
    }
}
