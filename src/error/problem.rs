//! What is wrong at a place of a JSON document. `build.rs` compiles this file too.

/// One contradiction in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where, as a JSON pointer: `/linux/namespaces/2/type`.
    pub at: String,
    /// What is wrong there, and what would be right.
    pub problem: String,
}

impl Problem {
    /// A problem at a JSON pointer.
    pub fn new(at: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            at: at.into(),
            problem: problem.into(),
        }
    }

    /// Why a text could not be read as a type, at the value that was not as it
    /// should be. What is no JSON keeps its line and column.
    pub fn of_json(json: &[u8], error: &serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        let before: usize = json
            .split_inclusive(|byte| *byte == b'\n')
            .take(line.saturating_sub(1))
            .map(<[u8]>::len)
            .sum();
        let mut end = before + column;
        // An array or object of the wrong type is refused before it is looked
        // into; every other value after it was read.
        end += usize::from(matches!(json.get(end), Some(b'{' | b'[')));
        let text = error.to_string();
        let place = format!(" at line {line} column {column}");
        let plain = text.strip_suffix(&place).filter(|_| error.is_data());
        Self {
            at: pointer(json, end),
            problem: plain.unwrap_or(&text).to_owned(),
        }
    }
}

/// The JSON pointer (RFC 6901) of the innermost value that the byte before
/// `end` belongs to. The text may break off, or go wrong, there.
fn pointer(json: &[u8], end: usize) -> String {
    let mut scan = Scan {
        rest: json.get(..end).unwrap_or(json),
        path: Vec::new(),
    };
    // What is cut off is in the value that was asked for.
    let _whole = scan.value();
    scan.path.concat()
}

/// Walks a text up to its end; `None` when it is cut off.
struct Scan<'a> {
    rest: &'a [u8],
    /// The references to the value that is open.
    path: Vec<String>,
}

impl<'a> Scan<'a> {
    fn value(&mut self) -> Option<()> {
        match self.token()? {
            b'{' => self.members(b'}', |scan, _| {
                let key = scan.string()?;
                (scan.token()? == b':').then_some(key)
            }),
            b'[' => self.members(b']', |_, index| Some(index.to_string())),
            b'"' => {
                self.rest_of_string()?;
                self.more()
            }
            _ => {
                let inside = |byte: &u8| !b",:]}\" \t\r\n".contains(byte);
                let after = self.rest.iter().position(|byte| !inside(byte))?;
                self.skip(after)
            }
        }
    }

    /// All of an array or object, each with its reference.
    fn members(
        &mut self,
        close: u8,
        reference: impl Fn(&mut Self, usize) -> Option<String>,
    ) -> Option<()> {
        for index in 0.. {
            self.blanks();
            match *self.rest.first()? {
                b',' => self.skip(1)?,
                byte if byte == close => return self.skip(1).and_then(|()| self.more()),
                _ => {}
            }
            let name = reference(self, index)?;
            self.blanks();
            self.more()?;
            self.path.push(format!("/{}", escape(&name)));
            self.value()?;
            self.path.pop();
        }
        None
    }

    /// `None` where the text ends: what was read last is the value in question.
    fn more(&self) -> Option<()> {
        (!self.rest.is_empty()).then_some(())
    }

    fn blanks(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.rest = self.rest.get(bytes..)?;
        Some(())
    }

    fn token(&mut self) -> Option<u8> {
        self.blanks();
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn string(&mut self) -> Option<String> {
        self.token()?;
        let inside = self.rest_of_string()?;
        let quoted = [b"\"", inside, b"\""].concat();
        // Escapes as the reader takes them.
        serde_json::from_slice(&quoted).ok()
    }

    /// What stands before the closing quote.
    fn rest_of_string(&mut self) -> Option<&'a [u8]> {
        let text = self.rest;
        let mut escaped = false;
        let close = text.iter().position(|byte| {
            let closes = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            closes
        })?;
        self.skip(close + 1)?;
        text.get(..close)
    }
}

/// A key as one reference of a JSON pointer.
pub fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pointer for each byte of a text, in runs: (pointer, until here).
    fn runs(json: &str) -> Vec<(String, usize)> {
        let mut runs: Vec<(String, usize)> = Vec::new();
        for end in 1..=json.len() {
            let at = pointer(json.as_bytes(), end);
            match runs.last_mut() {
                Some(last) if last.0 == at => last.1 = end,
                _ => runs.push((at, end)),
            }
        }
        runs
    }

    #[test]
    fn each_byte_belongs_to_a_value() {
        let json = r#"{"a":[10,"x"],"b/~\"":{"c":{}}}"#;
        let found = runs(json);
        let found: Vec<(&str, &str)> = found
            .iter()
            .scan(0, |from, (at, to)| {
                let text = &json[*from..*to];
                *from = *to;
                Some((at.as_str(), text))
            })
            .collect();
        assert_eq!(
            found,
            [
                ("", r#"{"a":"#),
                ("/a", "["),
                ("/a/0", "10"),
                ("/a", ","),
                ("/a/1", r#""x""#),
                ("/a", "]"),
                ("", r#","b/~\"":"#),
                ("/b~1~0\"", r#"{"c":"#),
                ("/b~1~0\"/c", "{}"),
                ("/b~1~0\"", "}"),
                ("", "}"),
            ]
        );
    }

    #[test]
    fn what_is_no_json_ends_the_walk() {
        for text in [
            "",
            " ",
            "{",
            "{]",
            "[}",
            "[,,,",
            "{\"a\" 1}",
            "\"",
            "\\",
            "}}}}",
        ] {
            for end in 0..=text.len() + 1 {
                pointer(text.as_bytes(), end);
            }
        }
    }
}
