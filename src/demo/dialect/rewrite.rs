//! PostgreSQL's spelling into SQLite's, token by token. Owns every such rule; what it does not know
//! it leaves alone, so that SQLite's own error reaches the client.

mod division;

use super::{lexer::Token, type_name};
use pgwire::api::Type;

/// A statement for SQLite.
#[derive(Debug)]
pub(super) struct Rewritten {
    /// What SQLite reads.
    pub(super) tokens: Vec<Token>,
    /// What casts (`$1::int4`) say of parameters, by number from zero.
    pub(super) parameter_types: Vec<Option<Type>>,
}

/// Rewrites one statement.
pub(super) fn rewrite(tokens: Vec<Token>) -> Rewritten {
    let tokens = keywords(operators(qualifiers(tokens)));
    let tokens = if defines_columns(&tokens) { column_definitions(&tokens) } else { tokens };
    casts(&division::checked(&tokens))
}

/// There is one schema, and the catalogue is made of views without a schema.
fn qualifiers(tokens: Vec<Token>) -> Vec<Token> {
    let mut out: Vec<Token> = Vec::with_capacity(tokens.len());
    let mut rest = tokens.into_iter().peekable();
    while let Some(token) = rest.next() {
        let dotted = rest.peek().is_some_and(|next| next.is_mark("."));
        let name = token.name().filter(|_| dotted).unwrap_or_default();
        match name.as_str() {
            "pg_catalog" | "public" => {
                rest.next();
            }
            "information_schema" => {
                rest.next();
                let table = rest.next().and_then(|table| table.name()).unwrap_or_default();
                out.push(Token::Word(format!("information_schema_{table}")));
            }
            _ => out.push(token),
        }
    }
    out
}

fn operators(tokens: Vec<Token>) -> Vec<Token> {
    let mut out: Vec<Token> = Vec::with_capacity(tokens.len());
    let mut rest = tokens.into_iter().peekable();
    while let Some(token) = rest.next() {
        let token = if token.is("operator") && rest.peek().is_some_and(|next| next.is_mark("(")) {
            rest.next();
            let operator = rest.next();
            rest.next();
            operator.unwrap_or(token)
        } else {
            token
        };
        let Token::Symbol(mark) = &token else {
            out.push(token);
            continue;
        };
        let binary = out.last().is_some_and(ends_operand);
        let words: &[&str] = match mark.as_str() {
            "~" | "~*" if binary => &["REGEXP"],
            "!~" | "!~*" => &["NOT", "REGEXP"],
            "~~" => &["LIKE"],
            "!~~" => &["NOT", "LIKE"],
            _ => {
                out.push(token);
                continue;
            }
        };
        out.extend(words.iter().map(|word| Token::word(word)));
    }
    out
}

fn keywords(tokens: Vec<Token>) -> Vec<Token> {
    let mut out: Vec<Token> = Vec::with_capacity(tokens.len());
    let mut rest = tokens.into_iter().peekable();
    while let Some(token) = rest.next() {
        let Token::Word(text) = &token else {
            out.push(token);
            continue;
        };
        let word = text.to_ascii_lowercase();
        let called = rest.peek().is_some_and(|next| next.is_mark("("));
        let qualified = out.last().is_some_and(|last| last.is_mark("."));
        match word.as_str() {
            _ if qualified => out.push(token),
            "current_user" | "session_user" | "current_catalog" | "current_schema" | "current_timestamp"
            | "current_date" | "current_role"
                if !called =>
            {
                let name = if word == "current_timestamp" { "now" } else { &word };
                out.extend([Token::word(name), Token::mark("("), Token::mark(")")]);
            }
            "ilike" => out.push(Token::word("LIKE")),
            "upsert" => out.extend(["INSERT", "OR", "REPLACE"].map(Token::word)),
            "cascade" | "restrict" if rest.peek().is_none() => (),
            "collate" if rest.peek().is_some_and(|next| next.name().as_deref() == Some("default")) => {
                rest.next();
            }
            "for" if rest.peek().is_some_and(|next| LOCKS.iter().any(|lock| next.is(lock))) => {
                break;
            }
            "generated" if is_identity(&rest.clone().take(4).collect::<Vec<_>>()) => {
                while rest.next().is_some_and(|next| !next.is("identity")) {}
            }
            "limit" | "offset" => {
                let parameter = rest.next_if(|next| matches!(next, Token::Parameter(_)));
                out.push(token);
                if let Some(parameter) = parameter {
                    // Clients send untyped parameters as text, which SQLite's LIMIT does not take.
                    out.extend([Token::word("to_int8"), Token::mark("("), parameter, Token::mark(")")]);
                }
            }
            "default" => {
                out.push(token);
                parenthesise_call(&mut rest, &mut out);
            }
            _ => out.push(token),
        }
    }
    out
}

fn is_identity(next: &[Token]) -> bool {
    next.iter().any(|token| token.is("identity"))
}

/// `DEFAULT f(…)` needs parentheses around it in SQLite.
fn parenthesise_call(rest: &mut std::iter::Peekable<std::vec::IntoIter<Token>>, out: &mut Vec<Token>) {
    let mut ahead = rest.clone();
    let (Some(Token::Word(_)), Some(open)) = (ahead.next(), ahead.next()) else {
        return;
    };
    if !open.is_mark("(") {
        return;
    }
    out.push(Token::mark("("));
    let mut depth = 0_usize;
    for token in rest.by_ref() {
        depth += usize::from(token.is_mark("("));
        let closes = token.is_mark(")");
        depth -= usize::from(closes).min(depth);
        out.push(token);
        if closes && depth == 0 {
            break;
        }
    }
    out.push(Token::mark(")"));
}

fn defines_columns(tokens: &[Token]) -> bool {
    let begins = |word: &str| tokens.first().is_some_and(|token| token.is(word));
    (begins("create") || begins("alter")) && tokens.iter().take(4).any(|token| token.is("table"))
}

/// Gives SQLite a type of its own for each column, since it takes any name for one and would treat
/// `uuid` or `string` as a number.
fn column_definitions(tokens: &[Token]) -> Vec<Token> {
    let mut out = Vec::with_capacity(tokens.len());
    let mut depth = 0_usize;
    let mut at_definition = false;
    let mut index = 0;
    while let Some(token) = tokens.get(index) {
        index += 1;
        let next = tokens.get(index..).unwrap_or_default();
        let opens = token.is_mark("(");
        depth += usize::from(opens);
        depth -= usize::from(token.is_mark(")")).min(depth);
        let names_column = at_definition && token.name().is_some() && !NOT_COLUMNS.iter().any(|word| token.is(word));
        if names_column && let Some((name, taken)) = type_name::leading(next) {
            out.extend([token.clone(), Token::word(name.declaration)]);
            index += taken;
            at_definition = false;
            continue;
        }
        let adds = token.is("column") || (token.is("exists") && depth == 0 && follows_column(&out));
        at_definition = depth == 1 && (opens || token.is_mark(",")) || adds;
        out.push(token.clone());
    }
    out
}

/// Whether `ADD COLUMN IF NOT` came before.
fn follows_column(out: &[Token]) -> bool {
    out.iter().rev().take(3).any(|token| token.is("column"))
}

/// `operand::type` and `CAST(operand AS type)`.
fn casts(tokens: &[Token]) -> Rewritten {
    let mut out: Vec<Token> = Vec::with_capacity(tokens.len());
    let mut parameter_types = Vec::new();
    let mut index = 0;
    while let Some(token) = tokens.get(index) {
        index += 1;
        let name = type_name::leading(tokens.get(index..).unwrap_or_default());
        let (Some((name, taken)), true) = (name, token.is_mark("::")) else {
            note_parameter(token, None, &mut parameter_types);
            out.push(token.clone());
            continue;
        };
        index += taken;
        let operand = out.split_off(operand_start(&out));
        if let [parameter] = operand.as_slice() {
            note_parameter(parameter, Some(name.pg), &mut parameter_types);
        }
        out.extend([Token::word(name.cast), Token::mark("(")]);
        out.extend(operand);
        out.push(Token::mark(")"));
    }
    Rewritten { tokens: out, parameter_types }
}

fn note_parameter(token: &Token, known: Option<Type>, types: &mut Vec<Option<Type>>) {
    let Token::Parameter(number) = token else {
        return;
    };
    if types.len() < *number {
        types.resize(*number, None);
    }
    if let (Some(slot), Some(known)) = (types.get_mut(number.saturating_sub(1)), known) {
        slot.get_or_insert(known);
    }
}

/// Where the operand begins that ends with the last token: a name with its qualifiers, a constant,
/// a parenthesis with the name of the function before it.
fn operand_start(out: &[Token]) -> usize {
    let mut start = out.len().saturating_sub(1);
    if out.last().is_some_and(|token| token.is_mark(")")) {
        let mut depth = 0_usize;
        for (index, token) in out.iter().enumerate().rev() {
            depth += usize::from(token.is_mark(")"));
            depth -= usize::from(token.is_mark("(")).min(depth);
            start = index;
            if depth == 0 {
                break;
            }
        }
        let called = start.checked_sub(1).and_then(|before| out.get(before)).is_some_and(is_function_name);
        start -= usize::from(called);
    }
    while start >= 2 && out.get(start - 1).is_some_and(|token| token.is_mark(".")) {
        start -= 2;
    }
    start
}

fn is_function_name(token: &Token) -> bool {
    matches!(token, Token::Word(_)) && !NOT_FUNCTIONS.iter().any(|word| token.is(word))
}

fn ends_operand(token: &Token) -> bool {
    match token {
        Token::Symbol(mark) => mark == ")",
        Token::Word(_) => is_function_name(token),
        _ => true,
    }
}

const LOCKS: [&str; 4] = ["update", "share", "no", "key"];

/// What may stand where a column could, in a definition.
const NOT_COLUMNS: [&str; 12] = [
    "constraint",
    "primary",
    "unique",
    "check",
    "foreign",
    "exclude",
    "index",
    "family",
    "inverted",
    "like",
    "column",
    "if",
];

/// Keywords before a parenthesis that is not a call, or before a unary operator.
const NOT_FUNCTIONS: [&str; 30] = [
    "select",
    "where",
    "and",
    "or",
    "not",
    "in",
    "as",
    "on",
    "from",
    "values",
    "set",
    "by",
    "having",
    "when",
    "then",
    "else",
    "case",
    "any",
    "all",
    "returning",
    "using",
    "between",
    "like",
    "is",
    "union",
    "except",
    "intersect",
    "limit",
    "offset",
    "distinct",
];

#[cfg(test)]
mod tests {
    use super::super::lexer::statements;
    use super::*;

    fn sql(text: &str) -> String {
        let tokens = statements(text).unwrap().concat();
        rewrite(tokens).tokens.iter().map(Token::text).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn casts_wrap_their_operand_and_nothing_else() {
        assert_eq!(sql("SELECT 1 + a.b::text"), "SELECT 1 + to_text ( a . b )");
        assert_eq!(sql("SELECT count(*)::int4 x"), "SELECT to_int8 ( count ( * ) ) x");
        assert_eq!(sql("WHERE a IN (1)::bool"), "WHERE a IN to_bool ( ( 1 ) )");
        assert_eq!(sql("SELECT $1::int::text"), "SELECT to_text ( to_int8 ( ?1 ) )");
    }

    #[test]
    fn casts_tell_the_types_of_parameters() {
        let tokens = statements("SELECT $2::bytea, $1, $3::int4::text").unwrap().concat();

        assert_eq!(rewrite(tokens).parameter_types, [None, Some(Type::BYTEA), Some(Type::INT4)]);
    }

    #[test]
    fn columns_get_types_that_sqlite_treats_as_meant() {
        assert_eq!(
            sql("CREATE TABLE IF NOT EXISTS public.t (id SERIAL PRIMARY KEY, \"a\" varchar(10) NOT NULL, \
                 u UUID DEFAULT gen_random_uuid(), n numeric(10,2), PRIMARY KEY (id))"),
            "CREATE TABLE IF NOT EXISTS t ( id INTEGER PRIMARY KEY , \"a\" TEXT NOT NULL , \
             u TEXT DEFAULT ( gen_random_uuid ( ) ) , n REAL , PRIMARY KEY ( id ) )"
        );
        assert_eq!(sql("ALTER TABLE t ADD COLUMN s STRING"), "ALTER TABLE t ADD COLUMN s TEXT");
        assert_eq!(
            sql("CREATE TABLE t (id bigint NOT NULL PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY, n int)"),
            "CREATE TABLE t ( id INTEGER NOT NULL PRIMARY KEY , n INTEGER )"
        );
    }

    #[test]
    fn catalogue_names_and_operators_become_what_sqlite_has() {
        assert_eq!(
            sql("SELECT 1 FROM pg_catalog.pg_class c WHERE c.relname OPERATOR(pg_catalog.~) '^(t)$' \
                 COLLATE pg_catalog.default AND n !~ '^pg_' AND ~1 = 2"),
            "SELECT 1 FROM pg_class c WHERE c . relname REGEXP '^(t)$' AND n NOT REGEXP '^pg_' AND ~ 1 = 2"
        );
        assert_eq!(sql("SELECT a / b::int % 2"), "SELECT a / nonzero ( to_int8 ( b ) ) % nonzero ( 2 )");
        assert_eq!(sql("SELECT current_user, t.current_user"), "SELECT current_user ( ) , t . current_user");
        assert_eq!(sql("SELECT * FROM t LIMIT $1 FOR UPDATE"), "SELECT * FROM t LIMIT to_int8 ( ?1 )");
    }

    #[test]
    fn odd_input_is_passed_on_without_harm() {
        for text in
            ["::", ") :: int", "::int", "CAST", "OPERATOR (", "DEFAULT f(", "information_schema.", "a.", "/", "1 / -"]
        {
            sql(text);
        }
    }
}
