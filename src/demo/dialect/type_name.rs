//! PostgreSQL's names of types, and what SQLite is told instead. Knows no values.

use super::lexer::Token;
use pgwire::api::Type;

/// A type as a statement spells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::demo) struct TypeName {
    /// What clients are told.
    pub(in crate::demo) pg: Type,
    /// The declaration for SQLite: it decides the affinity, and is read back when rows are described.
    pub(in crate::demo) declaration: &'static str,
    /// The function that casts a value.
    pub(in crate::demo) cast: &'static str,
}

/// The type that `tokens` begin with, and how many of them it takes: all of `double precision`,
/// `character varying(20)`, `timestamp without time zone`, `int[]`.
pub(super) fn leading(tokens: &[Token]) -> Option<(TypeName, usize)> {
    let word = match tokens.first()? {
        Token::Word(text) => text.to_ascii_lowercase(),
        Token::Quoted(_) => tokens.first()?.name()?,
        _ => return None,
    };
    let mut taken = 1;
    taken += match word.as_str() {
        "double" => follows(tokens.get(taken..)?, &["precision"]),
        "character" | "bit" => follows(tokens.get(taken..)?, &["varying"]),
        _ => 0,
    };
    taken += parenthesised(tokens.get(taken..)?);
    if matches!(word.as_str(), "timestamp" | "time") {
        taken += follows(tokens.get(taken..)?, &["with", "time", "zone"]);
        taken += follows(tokens.get(taken..)?, &["without", "time", "zone"]);
    }
    let mut array = false;
    while tokens.get(taken).is_some_and(|token| token.is_mark("[")) {
        let length = tokens.get(taken..)?.iter().position(|token| token.is_mark("]"))?;
        taken += length + 1;
        array = true;
    }
    Some((if array { TEXT } else { named(&word) }, taken))
}

/// The type that a column was declared with, once [`leading`] chose the declaration.
pub(in crate::demo) fn declared(declaration: &str) -> Type {
    let word: String = declaration.chars().take_while(char::is_ascii_alphanumeric).collect();
    named(&word.to_ascii_lowercase()).pg
}

fn named(word: &str) -> TypeName {
    let (pg, declaration, cast) = match word {
        "bool" | "boolean" => (Type::BOOL, "BOOLEAN", "to_bool"),
        "int2" | "smallint" | "smallserial" | "serial2" => (Type::INT2, "INT2", "to_int8"),
        "int4" | "serial4" => (Type::INT4, "INT4", "to_int8"),
        // As in CockroachDB, a plain integer has 64 bits. SQLite numbers the rows of an `INTEGER
        // PRIMARY KEY` by itself, and of no other spelling: that is what `serial` needs.
        "int" | "integer" | "int8" | "int64" | "bigint" | "serial" | "bigserial" | "serial8" | "oid" => {
            (Type::INT8, "INTEGER", "to_int8")
        }
        "float" | "float4" | "float8" | "real" | "double" | "numeric" | "decimal" | "dec" => {
            (Type::FLOAT8, "REAL", "to_float8")
        }
        "bytea" | "bytes" | "blob" => (Type::BYTEA, "BLOB", "to_bytea"),
        _ => return TEXT,
    };
    TypeName { pg, declaration, cast }
}

const TEXT: TypeName = TypeName { pg: Type::TEXT, declaration: "TEXT", cast: "to_text" };

fn follows(tokens: &[Token], words: &[&str]) -> usize {
    let same = tokens.len() >= words.len() && words.iter().zip(tokens).all(|(word, token)| token.is(word));
    if same { words.len() } else { 0 }
}

fn parenthesised(tokens: &[Token]) -> usize {
    match tokens.first() {
        Some(token) if token.is_mark("(") => {
            tokens.iter().position(|token| token.is_mark(")")).map_or(0, |end| end + 1)
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::lexer::statements;
    use super::*;

    #[test]
    fn a_type_takes_all_words_of_its_name_and_no_more() {
        let cases = [
            ("double precision NOT NULL", Type::FLOAT8, 2),
            ("character varying(20) NOT NULL", Type::TEXT, 5),
            ("numeric(10, 2) DEFAULT 0", Type::FLOAT8, 6),
            ("timestamp(3) with time zone DEFAULT x", Type::TEXT, 7),
            ("int[] NOT NULL", Type::TEXT, 3),
            ("INT PRIMARY KEY", Type::INT8, 1),
            ("bool", Type::BOOL, 1),
        ];

        for (sql, pg, taken) in cases {
            let tokens = statements(sql).unwrap().concat();
            let (name, length) = leading(&tokens).unwrap();
            assert_eq!((name.pg, length), (pg, taken), "{sql}");
        }
    }

    #[test]
    fn every_declaration_is_read_back_as_the_type_it_was_made_for() {
        for word in ["bool", "int2", "int4", "bigint", "serial", "numeric", "bytea", "uuid", "jsonb"] {
            let name = named(word);
            assert_eq!(declared(name.declaration), name.pg, "{word}");
        }
    }
}
