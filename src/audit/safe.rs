//! Text of others, made safe to look at.

use std::fmt::{self, Display, Write};

/// Text whose characters that a terminal acts on are written as `\u{..}`.
///
/// Ids, annotations and program names are chosen by whoever is watched: a line
/// end in one must not become a line of the table, an escape sequence must not
/// reach the terminal, and letters must not be shown in another order.
#[derive(Clone, Copy, Debug)]
pub struct Safe<'a>(pub &'a str);

impl Display for Safe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if acts(c) {
                write!(f, "\\u{{{:x}}}", u32::from(c))?;
            } else {
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}

/// Whether a terminal does something else with a character than showing it: control
/// characters, line ends of Unicode, and those that hide or turn around what
/// comes after them.
pub(super) fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}
