//! Both sides against each other, and both against noise.

use super::*;
use crate::secret::Secret;
use std::{num::NonZero, sync::Arc};

/// A small generator, so that a failure repeats.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

fn secret(password: &[u8]) -> Arc<Secret> {
    Arc::new(Secret::new(password.to_vec()))
}

/// A whole exchange; an error of either side.
fn login(verifier: &Arc<Verifier>, password: &[u8], binding: ChannelBinding) -> Result<(), ScramError> {
    let first = ClientFirst::new(binding)?;
    let exchange = ServerExchange::new(Arc::clone(verifier));
    let (server_first, state) = exchange.client_first(&first.message())?;
    let challenge = first.challenge(&server_first)?;
    let keys = ScramKeys::derive(password, challenge.salt(), challenge.iterations());
    let (client_final, expected) = challenge.answer(&keys);
    expected.verify(&state.client_final(&client_final)?)
}

#[tokio::test]
async fn any_password_opens_its_own_verifier_and_no_other() {
    let mut noise = Noise(0x5eed);
    let mut passwords: Vec<Vec<u8>> = (1..40).map(|length| noise.bytes(length)).collect();
    passwords.extend(["pencil", "pass phrase", "päß,=wörd", "\u{AA}\u{2168}", "😀"].map(Into::into));
    passwords.push(vec![b'x'; 64 * 1024]);
    for password in passwords {
        let verifier = Arc::new(Verifier::of(secret(&password)).await.unwrap());
        let wrong = [password.as_slice(), b"x"].concat();

        assert_eq!(login(&verifier, &password, ChannelBinding::Unsupported), Ok(()));
        assert_eq!(login(&verifier, &password, ChannelBinding::NotOffered), Ok(()));
        let refused = login(&verifier, &wrong, ChannelBinding::Unsupported);
        assert_eq!(refused, Err(ScramError::WrongPassword));
    }
}

#[tokio::test]
async fn one_password_gives_another_salt_each_time() {
    let salt = |verifier: Verifier| {
        let (first, _) = ServerExchange::new(Arc::new(verifier)).client_first(b"n,,n=,r=a").unwrap();
        let text = String::from_utf8(first).unwrap();
        text.split(',').nth(1).unwrap().to_owned()
    };

    let one = salt(Verifier::of(secret(b"pencil")).await.unwrap());
    let two = salt(Verifier::of(secret(b"pencil")).await.unwrap());

    assert_ne!(one, two);
}

#[tokio::test]
async fn both_spellings_of_a_password_that_saslprep_makes_equal_are_one() {
    let verifier = Arc::new(Verifier::of(secret("\u{2168}".as_bytes())).await.unwrap());

    assert_eq!(login(&verifier, b"IX", ChannelBinding::Unsupported), Ok(()));
}

#[tokio::test]
async fn a_login_with_channel_binding_is_refused_by_a_listener() {
    let verifier = Arc::new(Verifier::of(secret(b"pencil")).await.unwrap());
    let binding = ChannelBinding::ServerEndPoint(vec![1; 32]);

    let refused = login(&verifier, b"pencil", binding);

    assert_eq!(refused, Err(ScramError::ChannelBindingNotOffered));
}

/// Cuts, doubles, flips and inserts at random places.
fn spoil(noise: &mut Noise, message: &[u8]) -> Vec<u8> {
    let mut spoilt = message.to_vec();
    for _ in 0..=noise.below(3) {
        let place = noise.below(spoilt.len() + 1);
        match noise.below(5) {
            0 => spoilt.truncate(place),
            1 => spoilt.extend_from_within(place..),
            2 => spoilt.insert(place, b",="[noise.below(2)]),
            3 => spoilt.insert(place, noise.next().to_le_bytes()[0]),
            _ => {
                if let Some(byte) = spoilt.get_mut(place) {
                    *byte ^= 1 << noise.below(8);
                }
            }
        }
    }
    spoilt
}

#[tokio::test]
async fn no_spoilt_message_panics_or_opens_the_door() {
    let mut noise = Noise(0xbad5eed);
    let verifier = Arc::new(Verifier::of(secret(b"pencil")).await.unwrap());
    let rounds = NonZero::new(4096).unwrap();
    let mut refused = 0;
    for _ in 0..5_000 {
        let first = ClientFirst::new(ChannelBinding::Unsupported).unwrap();
        let message = first.message();
        let spoilt = spoil(&mut noise, &message);
        let _ = ServerExchange::new(Arc::clone(&verifier)).client_first(&spoilt);

        let exchange = ServerExchange::new(Arc::clone(&verifier));
        let (server_first, state) = exchange.client_first(&message).unwrap();
        let other = ClientFirst::new(ChannelBinding::NotOffered).unwrap();
        assert!(other.challenge(&spoil(&mut noise, &server_first)).is_err());

        // Keys of a wrong password: whatever becomes of the message, it must not be let in.
        let challenge = first.challenge(&server_first).unwrap();
        let keys = WRONG.get_or_init(|| ScramKeys::derive(b"wrong", b"salt", rounds));
        let (client_final, expected) = challenge.answer(keys);
        refused += usize::from(state.client_final(&spoil(&mut noise, &client_final)).is_err());
        assert!(expected.verify(&spoil(&mut noise, b"v=AAAA")).is_err());
    }
    assert_eq!(refused, 5_000);
}

static WRONG: std::sync::OnceLock<ScramKeys> = std::sync::OnceLock::new();
