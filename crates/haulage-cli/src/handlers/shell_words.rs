//! Splits a command into words as a shell does, but knows nothing else of a
//! shell: what a shell would act on is refused, rather than passed on as text.

/// The words of `line`.
///
/// # Errors
///
/// A sentence, where a quote is not closed, or a shell would do more than
/// split.
pub(crate) fn split(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '\'' => quoted(&mut chars, word.get_or_insert_default())?,
            '"' => double_quoted(&mut chars, word.get_or_insert_default())?,
            '\\' => match chars.next() {
                Some('\n') => {}
                Some(next) => word.get_or_insert_default().push(next),
                None => return Err("it ends in a backslash".into()),
            },
            '~' | '#' if word.is_none() => return Err(shell_only(c)),
            '|' | '&' | ';' | '<' | '>' | '(' | ')' | '$' | '`' | '*' | '?' => return Err(shell_only(c)),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

fn quoted(chars: &mut impl Iterator<Item = char>, word: &mut String) -> Result<(), String> {
    loop {
        match chars.next() {
            Some('\'') => return Ok(()),
            Some(c) => word.push(c),
            None => return Err("a single quote is not closed".into()),
        }
    }
}

fn double_quoted(chars: &mut impl Iterator<Item = char>, word: &mut String) -> Result<(), String> {
    loop {
        match chars.next() {
            Some('"') => return Ok(()),
            Some(c @ ('$' | '`')) => return Err(shell_only(c)),
            Some('\\') => match chars.next() {
                Some('\n') => {}
                Some(c @ ('"' | '\\' | '$' | '`')) => word.push(c),
                Some(c) => word.extend(['\\', c]),
                None => return Err("a double quote is not closed".into()),
            },
            Some(c) => word.push(c),
            None => return Err("a double quote is not closed".into()),
        }
    }
}

fn shell_only(c: char) -> String {
    format!(
        "{c} has a meaning for a shell only, and none is run; use --shell, or put single quotes around it"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_as_a_shell_does() {
        for (line, words) in [
            ("", &[][..]),
            ("  a\tb \n c ", &["a", "b", "c"]),
            ("a 'b  c' \"d e\"", &["a", "b  c", "d e"]),
            ("'' \"\"", &["", ""]),
            ("a'b'\"c\"d\\ e", &["abcd e"]),
            (r#"'$x | y' "\$ \" \\ \n""#, &["$x | y", r#"$ " \ \n"#]),
            ("a\\\nb --x=~ c#", &["ab", "--x=~", "c#"]),
            ("héllo 日本", &["héllo", "日本"]),
        ] {
            assert_eq!(
                split(line).as_deref(),
                Ok(&words.iter().map(ToString::to_string).collect::<Vec<_>>()[..]),
                "{line}"
            );
        }
    }

    #[test]
    fn refuses_what_needs_a_shell() {
        for line in
            ["a | b", "a > f", "a && b", "a; b", "$HOME/a", "\"$HOME\"", "`a`", "~/a", "a *.py", "a #b"]
        {
            let error = split(line).expect_err(line);
            assert!(error.contains("--shell"), "{error}");
        }
        for line in ["'a", "\"a", "a\\", "\"a\\"] {
            split(line).expect_err(line);
        }
    }
}
