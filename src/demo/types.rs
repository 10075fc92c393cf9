//! Values between SQLite and the wire, in text and binary. Owns both directions; runs no statement.
//!
//! SQLite stores what it is given in any column, so a value may not fit the type that the client was
//! told: that is an error then, never a wrong value.

use super::{error::SqlError, time};
use pgwire::api::{
    Type,
    results::{DataRowEncoder, FieldFormat},
};
use pgwire::error::PgWireResult;
use pgwire::types::format::FormatOptions;
use rusqlite::types::Value;
use std::fmt::Write;

/// The type that a value shows by itself, for columns without a declared one.
pub(super) fn of_value(value: &Value) -> Option<Type> {
    match value {
        Value::Null => None,
        Value::Integer(_) => Some(Type::INT8),
        Value::Real(_) => Some(Type::FLOAT8),
        Value::Text(_) => Some(Type::TEXT),
        Value::Blob(_) => Some(Type::BYTEA),
    }
}

/// Reads a parameter as the client sent it.
///
/// # Errors
/// 22P02 or 22P03 where the bytes are not of the type; 0A000 for a binary form that is not known.
pub(super) fn decode(bytes: &[u8], pg: &Type, binary: bool) -> Result<Value, SqlError> {
    if binary { decode_binary(bytes, pg) } else { decode_text(utf8(bytes)?, pg) }
}

fn decode_text(text: &str, pg: &Type) -> Result<Value, SqlError> {
    Ok(match *pg {
        Type::INT2 | Type::INT4 | Type::INT8 | Type::OID => Value::Integer(integer(text)?),
        Type::FLOAT4 | Type::FLOAT8 | Type::NUMERIC => match text.trim().parse::<i64>() {
            Ok(whole) => Value::Integer(whole), // Beyond 2^53 a float would change the number.
            Err(_) => Value::Real(float(text)?),
        },
        Type::BOOL => Value::Integer(boolean(text)?.into()),
        Type::BYTEA => Value::Blob(bytea(text)?),
        _ => Value::Text(text.to_owned()),
    })
}

fn decode_binary(bytes: &[u8], pg: &Type) -> Result<Value, SqlError> {
    let wrong = |_| SqlError::new("22P03", format!("incorrect binary data format for type {}", pg.name()));
    Ok(match *pg {
        Type::BOOL => Value::Integer(i64::from(u8::from_be_bytes(bytes.try_into().map_err(wrong)?) != 0)),
        Type::INT2 => Value::Integer(i16::from_be_bytes(bytes.try_into().map_err(wrong)?).into()),
        Type::INT4 => Value::Integer(i32::from_be_bytes(bytes.try_into().map_err(wrong)?).into()),
        Type::OID => Value::Integer(u32::from_be_bytes(bytes.try_into().map_err(wrong)?).into()),
        Type::INT8 => Value::Integer(i64::from_be_bytes(bytes.try_into().map_err(wrong)?)),
        Type::FLOAT4 => Value::Real(f32::from_be_bytes(bytes.try_into().map_err(wrong)?).into()),
        Type::FLOAT8 => Value::Real(f64::from_be_bytes(bytes.try_into().map_err(wrong)?)),
        Type::BYTEA => Value::Blob(bytes.to_vec()),
        Type::JSONB => Value::Text(utf8(bytes.get(1..).unwrap_or_default())?.to_owned()),
        Type::NUMERIC => Value::Text(numeric(bytes)?),
        Type::TIMESTAMP | Type::TIMESTAMPTZ => {
            let micros = i64::from_be_bytes(bytes.try_into().map_err(wrong)?);
            let text = time::timestamp(micros.saturating_add(time::POSTGRES_EPOCH_DAYS * time::DAY_MICROS));
            let text = if *pg == Type::TIMESTAMP { text.trim_end_matches("+00") } else { &text };
            Value::Text(text.to_owned())
        }
        Type::DATE => {
            let days = i32::from_be_bytes(bytes.try_into().map_err(wrong)?);
            Value::Text(time::date(i64::from(days) + time::POSTGRES_EPOCH_DAYS))
        }
        Type::UUID => Value::Text(uuid(bytes.try_into().map_err(wrong)?)),
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UNKNOWN | Type::JSON => {
            Value::Text(utf8(bytes)?.to_owned())
        }
        _ => {
            let what = format!("binary form of type {}", pg.name());
            return Err(SqlError::unsupported(&what));
        }
    })
}

/// Appends `value` to a row in the form that the client was told.
///
/// # Errors
/// 22P02 where the value is not of the type, 22003 where it is too large for it.
pub(super) fn encode(row: &mut DataRowEncoder, value: &Value, pg: &Type, format: FieldFormat) -> PgWireResult<()> {
    let options = FormatOptions::default();
    let mut put_text =
        |text: Option<String>| row.encode_field_with_type_and_format(&text, &Type::TEXT, FieldFormat::Text, &options);
    if matches!(value, Value::Null) {
        return put_text(None);
    }
    if format == FieldFormat::Text {
        return put_text(Some(text(value, pg)?));
    }
    let binary = FieldFormat::Binary;
    match *pg {
        Type::BOOL => row.encode_field_with_type_and_format(&as_boolean(value)?, pg, binary, &options),
        Type::INT2 => row.encode_field_with_type_and_format(&narrow::<i16>(value, pg)?, pg, binary, &options),
        Type::INT4 => row.encode_field_with_type_and_format(&narrow::<i32>(value, pg)?, pg, binary, &options),
        Type::INT8 => row.encode_field_with_type_and_format(&as_integer(value)?, pg, binary, &options),
        Type::FLOAT8 => row.encode_field_with_type_and_format(&as_float(value)?, pg, binary, &options),
        Type::BYTEA => row.encode_field_with_type_and_format(&as_bytes(value)?, pg, binary, &options),
        _ => put_text(Some(as_text(value))), // The binary form of text is the text.
    }
}

fn text(value: &Value, pg: &Type) -> Result<String, SqlError> {
    Ok(match *pg {
        Type::BOOL => if as_boolean(value)? { "t" } else { "f" }.to_owned(),
        Type::INT2 => narrow::<i16>(value, pg)?.to_string(),
        Type::INT4 => narrow::<i32>(value, pg)?.to_string(),
        Type::INT8 => as_integer(value)?.to_string(),
        Type::FLOAT8 => float_text(as_float(value)?),
        Type::BYTEA => hex(&as_bytes(value)?),
        _ => as_text(value),
    })
}

/// Any value as text, as PostgreSQL would print it.
pub(super) fn as_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => float_text(*number),
        Value::Text(text) => text.clone(),
        Value::Blob(bytes) => hex(bytes),
    }
}

/// Any value as an integer; fractions are rounded, as PostgreSQL's casts do.
pub(super) fn as_integer(value: &Value) -> Result<i64, SqlError> {
    match value {
        Value::Integer(number) => Ok(*number),
        Value::Real(number) => format!("{:.0}", number.round_ties_even())
            .parse()
            .map_err(|_parse| SqlError::new("22003", "integer out of range")),
        other => integer(&as_text(other)),
    }
}

/// Any value as a float.
pub(super) fn as_float(value: &Value) -> Result<f64, SqlError> {
    match value {
        Value::Real(number) => Ok(*number),
        other => float(&as_text(other)),
    }
}

/// Any value as a truth value.
pub(super) fn as_boolean(value: &Value) -> Result<bool, SqlError> {
    match value {
        Value::Integer(number) => Ok(*number != 0),
        other => boolean(&as_text(other)),
    }
}

/// Any value as bytes.
pub(super) fn as_bytes(value: &Value) -> Result<Vec<u8>, SqlError> {
    match value {
        Value::Blob(bytes) => Ok(bytes.clone()),
        other => bytea(&as_text(other)),
    }
}

fn narrow<T: TryFrom<i64>>(value: &Value, pg: &Type) -> Result<T, SqlError> {
    let out_of_range = |_| SqlError::new("22003", format!("value is out of range for type {}", pg.name()));
    T::try_from(as_integer(value)?).map_err(out_of_range)
}

fn utf8(bytes: &[u8]) -> Result<&str, SqlError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_utf8| SqlError::new("22021", "invalid byte sequence for encoding \"UTF8\""))?;
    if text.contains('\0') {
        return Err(SqlError::new("22021", "a text value must not contain a zero byte"));
    }
    Ok(text)
}

fn integer(text: &str) -> Result<i64, SqlError> {
    text.trim().parse().map_err(|_parse| invalid("integer", text))
}

fn float(text: &str) -> Result<f64, SqlError> {
    text.trim().parse().map_err(|_parse| invalid("double precision", text))
}

fn boolean(text: &str) -> Result<bool, SqlError> {
    match text.trim().to_ascii_lowercase().as_str() {
        "t" | "true" | "y" | "yes" | "on" | "1" => Ok(true),
        "f" | "false" | "n" | "no" | "off" | "0" => Ok(false),
        _ => Err(invalid("boolean", text)),
    }
}

/// `\x0a0b`; anything else stands for its own bytes.
fn bytea(text: &str) -> Result<Vec<u8>, SqlError> {
    let Some(digits) = text.strip_prefix("\\x") else {
        return Ok(text.as_bytes().to_vec());
    };
    let digits: Option<Vec<_>> = digits.chars().map(|digit| digit.to_digit(16)).collect();
    match digits {
        Some(digits) if digits.len() % 2 == 0 => {
            let byte = |pair: &[u32]| pair.iter().fold(0_u32, |byte, digit| byte << 4 | digit).to_be_bytes()[3];
            Ok(digits.chunks(2).map(byte).collect())
        }
        _ => Err(invalid("bytea", text)),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("\\x".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // Writing to a String cannot fail.
        text
    })
}

/// The text of PostgreSQL's binary NUMERIC: digits of base 10 000, the first of which counts
/// 10 000^weight.
fn numeric(bytes: &[u8]) -> Result<String, SqlError> {
    let words: Vec<i16> =
        bytes.chunks_exact(2).filter_map(|pair| Some(i16::from_be_bytes(pair.try_into().ok()?))).collect();
    let wrong = || SqlError::new("22P03", "incorrect binary data format for type numeric");
    let [_, weight, sign, _, digits @ ..] = words.as_slice() else {
        return Err(wrong());
    };
    let minus = match sign {
        0 => "",
        0x4000 => "-",
        _ => return Err(wrong()),
    };
    let mut text = String::new();
    for place in 0..=i32::from(*weight) {
        let digit = usize::try_from(place).ok().and_then(|place| digits.get(place)).copied().unwrap_or(0);
        let _ = write!(text, "{digit:04}"); // Writing to a String cannot fail.
    }
    let whole = text.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole }.to_owned();
    let lead = usize::try_from(-1 - i32::from(*weight)).unwrap_or(0);
    let skip = usize::try_from(i32::from(*weight) + 1).unwrap_or(0);
    let mut fraction = "0000".repeat(lead);
    for digit in digits.iter().skip(skip) {
        let _ = write!(fraction, "{digit:04}");
    }
    let fraction = fraction.trim_end_matches('0');
    Ok(if fraction.is_empty() { format!("{minus}{whole}") } else { format!("{minus}{whole}.{fraction}") })
}

/// The text of a UUID.
pub(super) fn uuid(bytes: [u8; 16]) -> String {
    let digits = hex(&bytes).split_off(2);
    let (a, rest) = digits.split_at(8);
    let (b, rest) = rest.split_at(4);
    let (c, rest) = rest.split_at(4);
    let (d, e) = rest.split_at(4);
    format!("{a}-{b}-{c}-{d}-{e}")
}

/// The shortest text that reads back as the same number, large and small ones with an exponent.
fn float_text(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let size = number.abs();
    if size != 0.0 && !(1e-4..1e15).contains(&size) {
        let text = format!("{number:e}");
        return match text.split_once('e') {
            Some((digits, exponent)) => match exponent.strip_prefix('-') {
                Some(exponent) => format!("{digits}e-{exponent:0>2}"),
                None => format!("{digits}e+{exponent:0>2}"),
            },
            None => text,
        };
    }
    number.to_string()
}

fn invalid(what: &str, text: &str) -> SqlError {
    let shown: String = text.chars().take(60).collect();
    SqlError::new("22P02", format!("invalid input syntax for type {what}: \"{shown}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_in_text_and_binary() {
        let int4 = 7_i32.to_be_bytes();
        let float8 = 1.5_f64.to_be_bytes();
        let cases: [(&[u8], Type, bool, Value); 9] = [
            (b"7", Type::INT4, false, Value::Integer(7)),
            (&int4, Type::INT4, true, Value::Integer(7)),
            (&float8, Type::FLOAT8, true, Value::Real(1.5)),
            (b"1.5", Type::FLOAT8, false, Value::Real(1.5)),
            (b"t", Type::BOOL, false, Value::Integer(1)),
            (&[0], Type::BOOL, true, Value::Integer(0)),
            (b"\\x00ff", Type::BYTEA, false, Value::Blob(vec![0, 255])),
            (&[0, 255], Type::BYTEA, true, Value::Blob(vec![0, 255])),
            (b"05", Type::TEXT, false, Value::Text("05".to_owned())),
        ];

        for (bytes, pg, binary, expected) in cases {
            assert_eq!(decode(bytes, &pg, binary).unwrap(), expected, "{pg} binary: {binary}");
        }
    }

    #[test]
    fn bytes_that_are_not_of_the_type_are_refused() {
        let cases: [(&[u8], Type, bool, &str); 6] = [
            (b"seven", Type::INT8, false, "22P02"),
            (&[1], Type::INT4, true, "22P03"),
            (&[255], Type::TEXT, true, "22021"),
            (b"a\0b", Type::TEXT, false, "22021"),
            (b"\\x0", Type::BYTEA, false, "22P02"),
            (&[1], Type::INTERVAL, true, "0A000"),
        ];

        for (bytes, pg, binary, code) in cases {
            assert_eq!(decode(bytes, &pg, binary).unwrap_err().code(), code, "{pg}");
        }
    }

    #[test]
    fn times_and_numerics_are_read_from_their_binary_forms() {
        let day = 1_i32.to_be_bytes();
        let micros = (-1_i64).to_be_bytes();
        // 12345.067 is 1 2345 . 0670; 0.00000001 is one digit of weight -2.
        let number = [0, 3, 0, 1, 0, 0, 0, 3, 0, 1, 0x09, 0x29, 0x02, 0x9e];
        let small = [0, 1, 0xff, 0xfe, 0x40, 0, 0, 8, 0, 1];
        let cases: [(&[u8], Type, &str); 4] = [
            (&day, Type::DATE, "2000-01-02"),
            (&micros, Type::TIMESTAMPTZ, "1999-12-31 23:59:59.999999+00"),
            (&number, Type::NUMERIC, "12345.067"),
            (&small, Type::NUMERIC, "-0.00000001"),
        ];

        for (bytes, pg, expected) in cases {
            assert_eq!(decode(bytes, &pg, true).unwrap(), Value::Text(expected.to_owned()), "{pg}");
        }
        assert_eq!(decode(&[0, 1], &Type::NUMERIC, true).unwrap_err().code(), "22P03");
    }

    #[test]
    fn floats_print_as_postgresql_prints_them() {
        let cases = [(3.0, "3"), (0.1, "0.1"), (1e300, "1e+300"), (-1.5e-7, "-1.5e-07"), (f64::INFINITY, "Infinity")];

        for (number, expected) in cases {
            assert_eq!(float_text(number), expected);
        }
    }

    #[test]
    fn a_value_that_does_not_fit_is_an_error_and_not_another_value() {
        assert_eq!(text(&Value::Integer(70_000), &Type::INT2).unwrap_err().code(), "22003");
        assert_eq!(text(&Value::Text("x".to_owned()), &Type::INT8).unwrap_err().code(), "22P02");
        assert_eq!(text(&Value::Integer(1), &Type::BOOL).unwrap(), "t");
        assert_eq!(as_integer(&Value::Real(1e300)).unwrap_err().code(), "22003");
    }
}
