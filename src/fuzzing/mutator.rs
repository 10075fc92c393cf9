//! Changes inputs at random, as a fuzzer does that sees nothing of what they do.

use fastrand::Rng;

/// A new input from some of `corpus`, or from nothing.
pub(super) fn mutate(corpus: &[Vec<u8>], rng: &mut Rng, into: &mut Vec<u8>) {
    into.clear();
    match rng.u8(..16) {
        0 => (0..rng.u8(..64)).for_each(|_| into.push(rng.u8(..))),
        _ => into.extend_from_slice(one_of(corpus, rng)),
    }
    for _ in 0..rng.u8(1..5) {
        change(corpus, rng, into);
    }
    into.truncate(BYTES_MAX);
}

fn change(corpus: &[Vec<u8>], rng: &mut Rng, input: &mut Vec<u8>) {
    let place = rng.usize(..=input.len());
    let end = (place + rng.usize(..20)).min(input.len());
    match rng.u8(..10) {
        0 => overwrite(input, place, &[rng.u8(..)]),
        1 => overwrite(input, place, &[SIGNS[rng.usize(..SIGNS.len())]]),
        2 => {
            let bit = 1 << rng.u8(..8);
            input.get_mut(place).into_iter().for_each(|byte| *byte ^= bit);
        }
        3 => overwrite(input, place, &LENGTHS[rng.usize(..LENGTHS.len())].to_be_bytes()),
        4 => overwrite(input, place, &rng.u32(..64).to_be_bytes()),
        5 => drop(input.drain(place..end)),
        6 => {
            let piece = input[place..end].to_vec();
            let at = rng.usize(..=input.len());
            input.splice(at..at, piece);
        }
        7 => drop(input.splice(place..place, [SIGNS[rng.usize(..SIGNS.len())]])),
        8 => {
            let other = one_of(corpus, rng);
            let from = rng.usize(..=other.len());
            let to = (from + rng.usize(..40)).min(other.len());
            input.splice(place..place, other[from..to].iter().copied());
        }
        _ => {
            let other = one_of(corpus, rng);
            input.truncate(place);
            input.extend_from_slice(&other[rng.usize(..=other.len())..]);
        }
    }
}

fn overwrite(input: &mut [u8], place: usize, with: &[u8]) {
    input.iter_mut().skip(place).zip(with).for_each(|(byte, new)| *byte = *new);
}

fn one_of<'c>(corpus: &'c [Vec<u8>], rng: &mut Rng) -> &'c [u8] {
    &corpus[rng.usize(..corpus.len())]
}

/// What the grammars are made of.
const SIGNS: &[u8] = b"\0\x01\x7f\x80\xff \t\n\"'\\%+-=,:;@?&/#[]{}.QPBDESHCFXdcfZTIGWNRKAv0123456789ae";
const LENGTHS: [u32; 10] = [0, 1, 3, 4, 5, 8, 0x7fff_ffff, 0x8000_0000, u32::MAX, 1 << 16];
const BYTES_MAX: usize = 4096;
