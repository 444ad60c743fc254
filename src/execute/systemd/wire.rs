//! D-Bus messages as bytes: the few types that systemd's manager speaks.
//!
//! Written little-endian, with every value at a multiple of its own size. What
//! is read comes from a bus that other programs of the user are on as well: no
//! length in it is believed before it was compared with what is there.
//! Source: the D-Bus specification, "Message Protocol".

use crate::plan::cgroup::systemd::Value;

/// The longest message that is taken: replies and signals of the manager have
/// some hundred bytes.
pub(super) const LONGEST: usize = 1 << 20;

/// Bytes of a message before its header fields: four bytes and three lengths.
pub(super) const PROLOGUE: usize = 16;

/// Containers within containers that are read; the specification allows 64.
const DEEPEST: u32 = 32;

/// A message that does not follow the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// What reading returns.
pub(super) type Read<T> = Result<T, Malformed>;

/// Bytes of a message that is being written.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    /// A 32-bit number.
    pub(super) fn u32(&mut self, value: u32) {
        self.align(4);
        self.bytes.extend(value.to_le_bytes());
    }

    /// A 64-bit number.
    pub(super) fn u64(&mut self, value: u64) {
        self.align(8);
        self.bytes.extend(value.to_le_bytes());
    }

    /// A boolean.
    pub(super) fn flag(&mut self, value: bool) {
        self.u32(u32::from(value));
    }

    /// A string or an object path.
    pub(super) fn text(&mut self, value: &str) {
        self.u32(length(value.len()));
        self.bytes.extend(value.as_bytes());
        self.bytes.push(0);
    }

    /// A signature; those of this program are short.
    pub(super) fn signature(&mut self, value: &str) {
        self.bytes
            .push(u8::try_from(value.len()).unwrap_or(u8::MAX));
        self.bytes.extend(value.as_bytes());
        self.bytes.push(0);
    }

    /// An array whose elements start at multiples of `alignment`.
    pub(super) fn array(&mut self, alignment: usize, elements: impl FnOnce(&mut Self)) {
        self.u32(0);
        let at = self.bytes.len();
        // Padding before the first element does not count.
        self.align(alignment);
        let first = self.bytes.len();
        elements(self);
        let size = length(self.bytes.len() - first);
        self.bytes[at - 4..at].copy_from_slice(&size.to_le_bytes());
    }

    /// The start of a struct.
    pub(super) fn structure(&mut self) {
        self.align(8);
    }

    /// A value with its type before it.
    pub(super) fn variant(&mut self, value: &Value) {
        match value {
            Value::Text(text) => {
                self.signature("s");
                self.text(text);
            }
            Value::Flag(flag) => {
                self.signature("b");
                self.flag(*flag);
            }
            Value::Number(number) => {
                self.signature("t");
                self.u64(*number);
            }
            Value::Signal(signal) => {
                self.signature("i");
                self.u32(signal.cast_unsigned());
            }
            Value::Pids(pids) => {
                self.signature("au");
                self.array(4, |w| pids.iter().for_each(|pid| w.u32(*pid)));
            }
            Value::Texts(texts) => {
                self.signature("as");
                self.array(4, |w| texts.iter().for_each(|text| w.text(text)));
            }
            Value::Bytes(bytes) => {
                self.signature("ay");
                self.array(1, |w| w.bytes.extend(bytes));
            }
        }
    }

    fn field(&mut self, field: &Field<'_>) {
        match field {
            Field::Path(number, path) => {
                self.bytes.push(*number);
                self.signature("o");
                self.text(path);
            }
            Field::Text(number, text) => {
                self.bytes.push(*number);
                self.signature("s");
                self.text(text);
            }
            #[cfg(test)]
            Field::Number(number, value) => {
                self.bytes.push(*number);
                self.signature("u");
                self.u32(*value);
            }
        }
    }

    /// What was written.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Nothing that is written here comes near 4 GiB; a peer refuses a cut-off length.
fn length(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Bytes of a message that is being read.
#[derive(Clone, Debug)]
pub(super) struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Reader<'b> {
    /// Reads from the start of a message or of its body.
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn take(&mut self, count: usize) -> Read<&'b [u8]> {
        let end = self.at.checked_add(count).ok_or(Malformed)?;
        let taken = self.bytes.get(self.at..end).ok_or(Malformed)?;
        self.at = end;
        Ok(taken)
    }

    fn align(&mut self, to: usize) -> Read<()> {
        let padding = self.at.next_multiple_of(to) - self.at;
        self.take(padding).map(drop)
    }

    fn u8(&mut self) -> Read<u8> {
        Ok(self.take(1)?[0])
    }

    /// A 32-bit number.
    pub(super) fn u32(&mut self) -> Read<u32> {
        self.align(4)?;
        let bytes = self.take(4)?.try_into().map_err(|_| Malformed)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn size(&mut self) -> Read<usize> {
        usize::try_from(self.u32()?).map_err(|_| Malformed)
    }

    fn terminated(&mut self, size: usize) -> Read<&'b str> {
        let text = self.take(size)?;
        if self.u8()? != 0 || text.contains(&0) {
            return Err(Malformed);
        }
        std::str::from_utf8(text).map_err(|_| Malformed)
    }

    /// A string or an object path.
    pub(super) fn text(&mut self) -> Read<&'b str> {
        let size = self.size()?;
        self.terminated(size)
    }

    /// A signature.
    pub(super) fn signature(&mut self) -> Read<&'b str> {
        let size = usize::from(self.u8()?);
        self.terminated(size)
    }

    /// Passes over the first complete type of a signature, and gives the rest of it.
    fn skip<'s>(&mut self, signature: &'s str, depth: u32) -> Read<&'s str> {
        if depth > DEEPEST {
            return Err(Malformed);
        }
        let mut rest = signature.chars();
        match rest.next().ok_or(Malformed)? {
            'y' => self.take(1).map(drop)?,
            'n' | 'q' => {
                self.align(2)?;
                self.take(2)?;
            }
            'b' | 'i' | 'u' | 'h' => self.u32().map(drop)?,
            'x' | 't' | 'd' => {
                self.align(8)?;
                self.take(8)?;
            }
            's' | 'o' => self.text().map(drop)?,
            'g' => self.signature().map(drop)?,
            'v' => {
                let inner = self.signature()?;
                let after = self.skip(inner, depth + 1)?;
                if !after.is_empty() {
                    return Err(Malformed);
                }
            }
            // Header fields of structs and arrays do not exist; none is ever awaited.
            _ => return Err(Malformed),
        }
        Ok(rest.as_str())
    }
}

/// What kind of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Somebody calls this program.
    Call,
    /// The answer to a call.
    Reply,
    /// The refusal of a call.
    Error,
    /// A signal.
    Signal,
}

/// A message from the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// What kind.
    pub(super) kind: Kind,
    /// Its number among the messages of its sender.
    pub(super) serial: u32,
    /// The call that it answers.
    pub(super) reply_to: Option<u32>,
    /// The signal's or method's name.
    pub(super) member: Option<String>,
    /// The name of the error.
    pub(super) error: Option<String>,
    /// Who sent it, as the bus itself says.
    pub(super) sender: Option<String>,
    /// The types of the body.
    pub(super) signature: String,
    /// The values.
    pub(super) body: Vec<u8>,
}

/// How long a whole message is, from its first [`PROLOGUE`] bytes, and whether
/// it is little-endian: the bus passes on what foreign machines' programs write.
pub(super) fn measure(prologue: &[u8; PROLOGUE]) -> Read<(usize, bool)> {
    let little = match prologue[0] {
        b'l' => true,
        b'B' => false,
        _ => return Err(Malformed),
    };
    let number = |at: usize| -> usize {
        let bytes = [
            prologue[at],
            prologue[at + 1],
            prologue[at + 2],
            prologue[at + 3],
        ];
        let number = if little {
            u32::from_le_bytes(bytes)
        } else {
            u32::from_be_bytes(bytes)
        };
        usize::try_from(number).unwrap_or(usize::MAX)
    };
    let (body, fields) = (number(4), number(12));
    if body > LONGEST || fields > LONGEST {
        return Err(Malformed);
    }
    let size = (PROLOGUE + fields).next_multiple_of(8) + body;
    if size > LONGEST {
        return Err(Malformed);
    }
    Ok((size, little))
}

/// Reads one whole little-endian message.
pub(super) fn parse(bytes: &[u8]) -> Read<Message> {
    let prologue = bytes.first_chunk::<PROLOGUE>().ok_or(Malformed)?;
    if measure(prologue)? != (bytes.len(), true) || prologue[3] != 1 {
        return Err(Malformed);
    }
    let mut message = Message {
        kind: match prologue[1] {
            1 => Kind::Call,
            2 => Kind::Reply,
            3 => Kind::Error,
            4 => Kind::Signal,
            _ => return Err(Malformed),
        },
        serial: 0,
        reply_to: None,
        member: None,
        error: None,
        sender: None,
        signature: String::new(),
        body: Vec::new(),
    };
    let mut reader = Reader::new(bytes);
    reader.take(8)?;
    message.serial = reader.u32()?;
    let end = reader.size()? + PROLOGUE;
    while reader.at < end {
        reader.align(8)?;
        let field = reader.u8()?;
        let kind = reader.signature()?;
        let owned = |text: &str| Some(text.to_owned());
        match (field, kind) {
            (3, "s") => message.member = owned(reader.text()?),
            (4, "s") => message.error = owned(reader.text()?),
            (5, "u") => message.reply_to = Some(reader.u32()?),
            (7, "s") => message.sender = owned(reader.text()?),
            (8, "g") => reader.signature()?.clone_into(&mut message.signature),
            (3 | 4 | 5 | 7 | 8, _) => return Err(Malformed),
            (_, kind) if reader.skip(kind, 0)?.is_empty() => {}
            _ => return Err(Malformed),
        }
    }
    if reader.at != end {
        return Err(Malformed);
    }
    reader.align(8)?;
    bytes[reader.at..].clone_into(&mut message.body);
    Ok(message)
}

/// A call of a method.
#[derive(Clone, Copy, Debug)]
pub(super) struct Method<'a> {
    /// Whose method.
    pub(super) destination: &'a str,
    /// The object.
    pub(super) path: &'a str,
    /// The interface.
    pub(super) interface: &'a str,
    /// The method.
    pub(super) member: &'a str,
}

/// A header field: its number and value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Field<'a> {
    /// A path of an object.
    Path(u8, &'a str),
    /// A name.
    Text(u8, &'a str),
    /// A number of a message.
    #[cfg(test)]
    Number(u8, u32),
}

/// The bytes of a call; `serial` is not 0.
pub(super) fn call(serial: u32, method: &Method<'_>, signature: &str, body: Writer) -> Vec<u8> {
    let fields = [
        Field::Path(1, method.path),
        Field::Text(2, method.interface),
        Field::Text(3, method.member),
        Field::Text(6, method.destination),
    ];
    message(1, serial, &fields, signature, body)
}

/// The bytes of a message of a kind.
pub(super) fn message(
    kind: u8,
    serial: u32,
    fields: &[Field<'_>],
    signature: &str,
    body: Writer,
) -> Vec<u8> {
    let body = body.into_bytes();
    let mut writer = Writer::default();
    // Little-endian, the kind, no flags, version 1.
    writer.bytes.extend([b'l', kind, 0, 1]);
    writer.u32(length(body.len()));
    writer.u32(serial);
    writer.array(8, |w| {
        for field in fields {
            w.structure();
            w.field(field);
        }
        if !signature.is_empty() {
            w.structure();
            w.bytes.push(8);
            w.signature("g");
            w.signature(signature);
        }
    });
    writer.align(8);
    writer.bytes.extend(body);
    writer.into_bytes()
}

#[cfg(test)]
mod tests;
