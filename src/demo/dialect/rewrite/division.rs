//! Division by zero: an error to PostgreSQL, NULL to SQLite. Owns where a divisor ends.

use crate::demo::dialect::{lexer::Token, type_name};

/// Puts every divisor into `nonzero(…)`, a function that fails with 22012. Only the divisor: what is
/// divided depends on precedence, and may stay as it is.
pub(super) fn checked(tokens: &[Token]) -> Vec<Token> {
    let mut out = Vec::with_capacity(tokens.len());
    // Where the divisors end that we are inside of, innermost last.
    let mut ends = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        out.push(token.clone());
        while ends.pop_if(|end| *end == index + 1).is_some() {
            out.push(Token::mark(")"));
        }
        let divides = token.is_mark("/") || token.is_mark("%");
        if divides && ends.len() < DEPTH_MAX {
            let taken = length(tokens.get(index + 1..).unwrap_or_default());
            if taken > 0 {
                out.extend([Token::word("nonzero"), Token::mark("(")]);
                ends.push(index + 1 + taken);
            }
        }
    }
    out
}

/// How many tokens the operand at the front takes: its signs, a name with qualifiers, a constant, a
/// call or a parenthesis, and the casts behind. Zero for anything else, which SQLite then judges.
fn length(tokens: &[Token]) -> usize {
    let after = |taken: usize| tokens.get(taken..).unwrap_or_default();
    let mut taken = tokens.iter().take_while(|token| token.is_mark("-") || token.is_mark("+")).count();
    let operand = match after(taken) {
        [first, ..] if first.is_mark("(") => enclosed(after(taken), "(", ")"),
        [first, ..] if first.is("case") => enclosed(after(taken), "case", "end"),
        [Token::Symbol(_), ..] | [] => 0,
        [..] => 1,
    };
    if operand == 0 {
        return 0;
    }
    taken += operand;
    while let [dot, Token::Word(_) | Token::Quoted(_), ..] = after(taken)
        && dot.is_mark(".")
    {
        taken += 2;
    }
    if after(taken).first().is_some_and(|token| token.is_mark("(")) {
        taken += enclosed(after(taken), "(", ")");
    }
    while let [cast, name @ ..] = after(taken)
        && cast.is_mark("::")
        && let Some((_, words)) = type_name::leading(name)
    {
        taken += 1 + words;
    }
    taken
}

/// From an opening token to the one that closes it, or zero where none does.
fn enclosed(tokens: &[Token], open: &str, close: &str) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate() {
        depth += usize::from(token.is(open) || token.is_mark(open));
        depth -= usize::from(token.is(close) || token.is_mark(close)).min(depth);
        if depth == 0 {
            return index + 1;
        }
    }
    0
}

/// Divisors in divisors' parentheses; deeper ones stay as they are, so that the time is linear.
const DEPTH_MAX: usize = 50;

#[cfg(test)]
mod tests {
    use super::super::super::lexer::statements;
    use super::*;

    #[test]
    fn a_divisor_is_one_operand_with_its_signs_and_casts() {
        let cases = [
            ("a * b / c * d", "a * b / nonzero ( c ) * d"),
            ("1 / -t . n :: int + 1", "1 / nonzero ( - t . n :: int ) + 1"),
            ("1 % (2 / f(3)) / 4", "1 % nonzero ( ( 2 / nonzero ( f ( 3 ) ) ) ) / nonzero ( 4 )"),
            ("1 / case when a then 0 end, 2", "1 / nonzero ( case when a then 0 end ) , 2"),
            ("1 / $1", "1 / nonzero ( ?1 )"),
            ("1 / (2", "1 / ( 2"),
        ];

        for (sql, expected) in cases {
            let tokens = statements(sql).unwrap().concat();
            let texts: Vec<_> = checked(&tokens).iter().map(Token::text).collect();
            assert_eq!(texts.join(" "), expected, "{sql}");
        }
    }

    #[test]
    fn endless_nesting_takes_neither_stack_nor_time() {
        let tokens = statements(&format!("{}1{}", "1/(".repeat(100_000), ")".repeat(100_000))).unwrap().concat();

        let out = checked(&tokens);

        assert_eq!(out.len(), tokens.len() + 3 * DEPTH_MAX);
    }
}
