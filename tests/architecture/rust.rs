//! Just enough of Rust's grammar: what is code, which words, which imports.

/// The code with comments, strings and character literals blanked out; lines stay where they are.
pub(crate) fn code(text: &str) -> String {
    let bytes: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = match (bytes[at], bytes.get(at + 1)) {
            ('/', Some('/')) => line_end(&bytes, at),
            ('/', Some('*')) => block_comment_end(&bytes, at),
            ('"', _) => string_end(&bytes, at),
            ('r' | 'b' | 'c', _) if !part_of_word(&bytes, at) => {
                raw_string_end(&bytes, at).unwrap_or(at)
            }
            ('\'', _) => char_end(&bytes, at).unwrap_or(at),
            _ => at,
        };
        if end == at {
            out.push(bytes[at]);
            at += 1;
            continue;
        }
        // Something must stay in the place of a literal, newlines above all.
        out.extend(
            bytes[at..end]
                .iter()
                .map(|c| if *c == '\n' { '\n' } else { ' ' }),
        );
        at = end;
    }
    out
}

fn part_of_word(bytes: &[char], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_alphanumeric() || bytes[at - 1] == '_')
}

fn line_end(bytes: &[char], at: usize) -> usize {
    bytes[at..]
        .iter()
        .position(|c| *c == '\n')
        .map_or(bytes.len(), |length| at + length)
}

fn block_comment_end(bytes: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at + 1 < bytes.len() {
        match (bytes[at], bytes[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[char], at: usize) -> usize {
    let mut at = at + 1;
    while at < bytes.len() {
        match bytes[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// `r"..."`, `br#"..."#`, `c"..."`, `b"..."`; `None` when an identifier starts here.
fn raw_string_end(bytes: &[char], start: usize) -> Option<usize> {
    let mut at = start;
    let mut raw = false;
    while let Some('r' | 'b' | 'c') = bytes.get(at) {
        raw |= bytes[at] == 'r';
        at += 1;
    }
    let hashes = bytes[at..].iter().take_while(|c| **c == '#').count();
    at += hashes;
    if at - hashes > start + 2 || bytes.get(at) != Some(&'"') || (hashes > 0 && !raw) {
        return None;
    }
    if !raw {
        return Some(string_end(bytes, at));
    }
    let closing: Vec<char> = std::iter::once('"')
        .chain(std::iter::repeat_n('#', hashes))
        .collect();
    let rest = &bytes[at + 1..];
    let length = rest
        .windows(closing.len())
        .position(|window| window == closing.as_slice());
    Some(length.map_or(bytes.len(), |length| at + 1 + length + closing.len()))
}

/// The end of a character literal; `None` for a lifetime.
fn char_end(bytes: &[char], at: usize) -> Option<usize> {
    if bytes.get(at + 1) == Some(&'\\') {
        let length = bytes[at + 3..].iter().position(|c| *c == '\'')?;
        return Some(at + 3 + length + 1);
    }
    (bytes.get(at + 2) == Some(&'\'')).then_some(at + 3)
}

/// The code without its `#[cfg(test)]` modules.
pub(crate) fn shipped(text: &str) -> String {
    let mut code = code(text);
    while let Some(start) = code.find("#[cfg(test)]") {
        let rest = &code[start..];
        let end = match (rest.find('{'), rest.find(';')) {
            (Some(brace), semicolon) if semicolon.is_none_or(|semicolon| brace < semicolon) => {
                start + brace + block_length(&rest[brace..])
            }
            (_, Some(semicolon)) => start + semicolon + 1,
            _ => code.len(),
        };
        let lines = "\n".repeat(code[start..end].matches('\n').count());
        code.replace_range(start..end, &lines);
    }
    code
}

/// Length of the block that begins with the brace at the start.
pub(crate) fn block_length(code: &str) -> usize {
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    code.len()
}

pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// Positions of a word that is not part of a longer one.
pub(crate) fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let edge = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_');
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |at| {
            edge(code[..*at].chars().next_back()) && edge(code[at + word.len()..].chars().next())
        })
}

/// What a file takes from the crate: `a::b` for `crate::a::b`, groups opened.
pub(crate) fn imports(code: &str) -> Vec<String> {
    let flat: String = code
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace(":: ", "::")
        .replace(" ::", "::");
    let mut found = Vec::new();
    for at in words(&flat, "crate").collect::<Vec<_>>() {
        if let Some(rest) = flat[at..].strip_prefix("crate::") {
            expand("", rest, &mut found);
        }
    }
    found
}

/// Opens `a::{b, c::d}` into `a::b` and `a::c::d`.
fn expand(prefix: &str, path: &str, found: &mut Vec<String>) {
    let simple = path
        .find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':')
        .unwrap_or(path.len());
    let (head, rest) = path.split_at(simple);
    let Some(group) = rest
        .strip_prefix('{')
        .filter(|_| head.is_empty() || head.ends_with("::"))
    else {
        found.push(format!("{prefix}{}", head.trim_end_matches(':')));
        return;
    };
    let inside = &group[..block_length(rest).saturating_sub(2)];
    let (mut depth, mut start) = (0, 0);
    for (at, c) in inside.char_indices().chain([(inside.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let member = inside[start..at].trim();
                if !member.is_empty() {
                    expand(&format!("{prefix}{head}"), member, found);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}
