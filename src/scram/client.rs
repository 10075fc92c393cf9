//! The client's side of a SCRAM exchange: how the daemon logs in to a cluster.
//!
//! Each step consumes the one before, so that none can be left out: the login is good only once
//! [`Expected::verify`] has found that the server knows the password too.

use super::{
    SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramError, ScramKeys,
    crypto::{self, ITERATIONS_MAX, ITERATIONS_MIN, KEY_BYTES},
    message::{self, Attributes},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::num::NonZero;

/// What the login says about channel binding (the GS2 header, RFC 5802 §6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelBinding {
    /// `n`: not supported here. Also the answer where a server offers -PLUS but its certificate has
    /// no binding, since `y` would then claim that it did not offer it, and fail.
    Unsupported,
    /// `y`: supported here, and the server did not offer it.
    NotOffered,
    /// `p=tls-server-end-point`, with [`crate::tls::server_end_point`] of the server's certificate.
    ServerEndPoint(Vec<u8>),
}

impl ChannelBinding {
    /// The mechanism to name in SASLInitialResponse.
    pub fn mechanism(&self) -> &'static str {
        match self {
            Self::Unsupported | Self::NotOffered => SCRAM_SHA_256,
            Self::ServerEndPoint(_) => SCRAM_SHA_256_PLUS,
        }
    }

    fn header(&self) -> &'static str {
        match self {
            Self::Unsupported => "n,,",
            Self::NotOffered => "y,,",
            Self::ServerEndPoint(_) => "p=tls-server-end-point,,",
        }
    }

    /// The `c=` value: the header again, now signed, and the binding itself.
    fn proof_input(&self) -> String {
        let mut input = self.header().as_bytes().to_vec();
        if let Self::ServerEndPoint(binding) = self {
            input.extend(binding);
        }
        STANDARD.encode(input)
    }
}

/// The first message, and what is needed to judge the answer.
#[derive(Debug)]
pub struct ClientFirst {
    binding: ChannelBinding,
    nonce: String,
    user: &'static str,
}

impl ClientFirst {
    /// Draws a nonce.
    ///
    /// # Errors
    /// Only when the system gives no random bytes.
    pub fn new(binding: ChannelBinding) -> Result<Self, ScramError> {
        Ok(Self {
            binding,
            nonce: crypto::nonce()?,
            // As libpq: servers take the user from the startup message and ignore this one.
            user: "",
        })
    }

    /// The client-first-message.
    pub fn message(&self) -> Vec<u8> {
        format!("{}{}", self.binding.header(), self.bare()).into_bytes()
    }

    /// Reads the server-first-message.
    ///
    /// # Errors
    /// Refuses a nonce that does not continue ours, iterations outside 4 096–1 000 000, mandatory
    /// extensions, and anything that breaks the grammar.
    pub fn challenge(self, server_first: &[u8]) -> Result<Challenge, ScramError> {
        let mut attributes = Attributes::of(server_first)?;
        let nonce = message::printable(attributes.take(b'r', "no nonce")?, "its nonce")?;
        let salt = message::base64(attributes.take(b's', "no salt")?, "its salt")?;
        let iterations = message::count(attributes.take(b'i', "no iteration count")?)
            .ok_or(ScramError::Malformed("its iteration count"))?;
        attributes.end()?;
        if nonce.len() <= self.nonce.len() || !nonce.starts_with(&self.nonce) {
            return Err(ScramError::Nonce);
        }
        if salt.is_empty() {
            return Err(ScramError::Malformed("its salt"));
        }
        if !(ITERATIONS_MIN..=ITERATIONS_MAX).contains(&iterations) {
            return Err(ScramError::Iterations(iterations));
        }
        let unsigned = format!("c={},r={nonce}", self.binding.proof_input());
        let mut signed = format!("{},", self.bare()).into_bytes();
        signed.extend(server_first);
        signed.push(b',');
        signed.extend(unsigned.as_bytes());
        Ok(Challenge {
            salt,
            iterations: NonZero::new(iterations).ok_or(ScramError::Iterations(iterations))?,
            unsigned,
            signed,
        })
    }

    fn bare(&self) -> String {
        format!("n={},r={}", self.user, self.nonce)
    }
}

/// What the server asks for.
#[derive(Debug)]
pub struct Challenge {
    salt: Vec<u8>,
    iterations: NonZero<u32>,
    unsigned: String,
    signed: Vec<u8>,
}

impl Challenge {
    /// The password's salt; at least one byte.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// Rounds of PBKDF2, 4 096–1 000 000.
    pub fn iterations(&self) -> NonZero<u32> {
        self.iterations
    }

    /// The client-final-message, and what the server must answer. `keys` are those of the secret
    /// under this challenge's salt and iterations.
    pub fn answer(self, keys: &ScramKeys) -> (Vec<u8>, Expected) {
        let signature = crypto::sign(&keys.stored, &self.signed);
        let proof = crypto::xor(&keys.client, &signature);
        let message = format!("{},p={}", self.unsigned, STANDARD.encode(proof.as_slice()));
        let expected = Expected { signature: crypto::sign(&keys.server, &self.signed) };
        (message.into_bytes(), expected)
    }
}

/// The signature by which the server proves that it knows the password.
#[derive(Debug)]
pub struct Expected {
    signature: [u8; KEY_BYTES],
}

impl Expected {
    /// Checks the server-final-message, in constant time.
    ///
    /// # Errors
    /// [`ScramError::Refused`] with the server's word, [`ScramError::ServerSignature`] when it does
    /// not know the password, or a malformed message.
    pub fn verify(self, server_final: &[u8]) -> Result<(), ScramError> {
        if let Some(error) = server_final.strip_prefix(b"e=") {
            return Err(ScramError::Refused(bounded(error)));
        }
        let mut attributes = Attributes::of(server_final)?;
        let value = attributes.take(b'v', "no server signature")?;
        let signature = message::key(value, "its server signature")?;
        attributes.end()?;
        match crypto::equal(&signature, &self.signature) {
            true => Ok(()),
            false => Err(ScramError::ServerSignature),
        }
    }
}

fn bounded(text: &[u8]) -> String {
    let shown = text.iter().take(ERROR_CHARS_MAX).map(|byte| char::from(*byte));
    shown.map(|char| if char == ' ' || char.is_ascii_graphic() { char } else { '?' }).collect()
}

/// The words of RFC 5802 §7 are under 40 characters.
const ERROR_CHARS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn rfc_7677(binding: ChannelBinding) -> ClientFirst {
        ClientFirst { binding, nonce: "rOprNGfwEbeRWgbNEkqO".to_owned(), user: "user" }
    }

    const SERVER_FIRST: &[u8] =
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    fn refuse(server_first: &[u8]) -> ScramError {
        rfc_7677(ChannelBinding::Unsupported).challenge(server_first).unwrap_err()
    }

    #[test]
    fn the_exchange_of_rfc_7677_is_reproduced() {
        let first = rfc_7677(ChannelBinding::Unsupported);
        assert_eq!(first.message(), b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");

        let challenge = first.challenge(SERVER_FIRST).unwrap();
        let keys = ScramKeys::derive(b"pencil", challenge.salt(), challenge.iterations());
        let (message, expected) = challenge.answer(&keys);

        let proof = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        assert_eq!(String::from_utf8(message).unwrap(), format!("c=biws,r={nonce},p={proof}"));
        expected.verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").unwrap();
    }

    #[test]
    fn the_first_message_is_libpqs_with_a_nonce_that_never_repeats() {
        let (one, two) = (
            ClientFirst::new(ChannelBinding::NotOffered).unwrap().message(),
            ClientFirst::new(ChannelBinding::NotOffered).unwrap().message(),
        );

        assert!(one.starts_with(b"y,,n=,r="));
        assert_eq!(one.len(), "y,,n=,r=".len() + 24);
        assert_ne!(one, two);
    }

    #[test]
    fn the_binding_is_said_in_the_first_message_and_signed_in_the_last() {
        for (binding, mechanism, header, input) in [
            (ChannelBinding::Unsupported, SCRAM_SHA_256, "n,,", "n,,"),
            (ChannelBinding::NotOffered, SCRAM_SHA_256, "y,,", "y,,"),
            (
                ChannelBinding::ServerEndPoint(b"DIGEST".to_vec()),
                SCRAM_SHA_256_PLUS,
                "p=tls-server-end-point,,",
                "p=tls-server-end-point,,DIGEST",
            ),
        ] {
            assert_eq!(binding.mechanism(), mechanism);
            let first = rfc_7677(binding);
            assert!(first.message().starts_with(header.as_bytes()));

            let challenge = first.challenge(SERVER_FIRST).unwrap();
            let keys = ScramKeys::derive(b"pencil", challenge.salt(), challenge.iterations());
            let (message, _) = challenge.answer(&keys);

            let signed = format!("c={},r=", STANDARD.encode(input));
            assert!(message.starts_with(signed.as_bytes()), "{signed}");
        }
    }

    #[test]
    fn iterations_outside_4096_to_1000000_are_refused() {
        let with = |count: &str| {
            let text = String::from_utf8(SERVER_FIRST.to_vec()).unwrap();
            text.replace("i=4096", &format!("i={count}")).into_bytes()
        };
        let accepts = |count: &str| rfc_7677(ChannelBinding::Unsupported).challenge(&with(count)).is_ok();

        assert_eq!(refuse(&with("4095")), ScramError::Iterations(4095));
        assert_eq!(refuse(&with("1000001")), ScramError::Iterations(1_000_001));
        assert!(accepts("4096") && accepts("10610") && accepts("1000000"));
        for odd in ["0", "-1", "+4096", "04096", "4096 ", "99999999999", "", "4096x"] {
            let error = refuse(&with(odd));
            assert_eq!(error, ScramError::Malformed("its iteration count"), "{odd}");
        }
    }

    #[test]
    fn a_nonce_that_does_not_continue_ours_is_refused() {
        assert_eq!(refuse(b"r=other,s=W22Z,i=4096"), ScramError::Nonce);
        let longer = b"r=xOprNGfwEbeRWgbNEkqOabc,s=W22Z,i=4096";
        assert_eq!(refuse(longer), ScramError::Nonce);
        assert_eq!(refuse(b"r=rOprNGfwEbeRWgbNEkqO,s=W22Z,i=4096"), ScramError::Nonce);
        assert_eq!(refuse(b"r=rOprNGfwEbeRWgbNEkq,s=W22Z,i=4096"), ScramError::Nonce);
    }

    #[test]
    fn a_mandatory_extension_is_refused_and_an_optional_one_ignored() {
        let extended = |extension: &[u8]| [SERVER_FIRST, extension].concat();
        let first = [b"m=ext,".as_slice(), SERVER_FIRST].concat();

        assert_eq!(refuse(&first), ScramError::MandatoryExtension);
        assert_eq!(refuse(&extended(b",m=ext")), ScramError::MandatoryExtension);
        let optional = rfc_7677(ChannelBinding::Unsupported).challenge(&extended(b",x=1,y=2"));
        assert!(optional.is_ok());
    }

    #[test]
    fn a_server_first_message_that_breaks_the_grammar_is_refused() {
        let own = b"r=rOprNGfwEbeRWgbNEkqOabc";
        let with = |rest: &[u8]| [own.as_slice(), rest].concat();
        for message in [
            b"".to_vec(),
            b",".to_vec(),
            b"r".to_vec(),
            with(b""),
            with(b",s=W22Z"),
            with(b",i=4096,s=W22Z"),
            with(b",s=,i=4096"),
            with(b",s=W22,i=4096"),
            with(b",s=\xFF\xFE,i=4096"),
            with(b"\xFF,s=W22Z,i=4096"),
            with(b" ,s=W22Z,i=4096"),
            with(b",s=W22Z,i=4096,"),
            with(b",s=W22Z,i=4096,i=4096"),
            with(b",s=W22Z,s=W22Z,i=4096"),
            with(b",s=W22Z,i=4096,r=x"),
            with(b",s=W22Z,i=4096,x"),
            [with(b",s=W22Z,i=4096,x=").as_slice(), &[b'y'; 8192]].concat(),
        ] {
            let shown = String::from_utf8_lossy(&message).into_owned();
            let error = refuse(&message);
            assert!(matches!(error, ScramError::Malformed(_)), "{shown}: {error:?}");
        }
    }

    fn expected() -> Expected {
        let challenge = rfc_7677(ChannelBinding::Unsupported).challenge(SERVER_FIRST).unwrap();
        let keys = ScramKeys::derive(b"pencil", challenge.salt(), challenge.iterations());
        challenge.answer(&keys).1
    }

    #[test]
    fn a_server_that_does_not_know_the_password_is_refused() {
        let other = format!("v={}", STANDARD.encode([7; 32]));

        assert_eq!(expected().verify(other.as_bytes()), Err(ScramError::ServerSignature));
    }

    #[test]
    fn a_servers_own_error_is_told_bounded() {
        let plain = expected().verify(b"e=invalid-proof");
        let odd = expected().verify(&[b"e=\x1b\xFF".as_slice(), &[b'x'; 5000]].concat());

        assert_eq!(plain, Err(ScramError::Refused("invalid-proof".to_owned())));
        let Err(ScramError::Refused(text)) = odd else { panic!("{odd:?}") };
        assert!(text.starts_with("??x") && text.len() == 100, "{text}");
    }

    #[test]
    fn a_malformed_server_final_message_is_refused() {
        let good = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        for message in ["", "v", "v=", "v=AAAA", "v=!!!!", "x=1", &format!("{good},{good}")] {
            let error = expected().verify(message.as_bytes()).unwrap_err();
            assert!(matches!(error, ScramError::Malformed(_)), "{message}: {error:?}");
        }
    }
}
