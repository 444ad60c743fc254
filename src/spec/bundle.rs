//! `config.json` and `exec --process` files: bytes to types.
//!
//! A well-formed file takes one pass. Only when that fails is the file read
//! again, slowly: to name the place of the mistake, and to take what the
//! runtime specification accepts and the types do not.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Capability, LinuxResources, Process, Spec};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use syscalls::Sysno;

use crate::error::{Error, Failure, Problem, Result};

/// The largest file read, in bytes. The kernel takes at most 6 MiB of arguments
/// and environment, so this leaves room for everything else several times over;
/// without a limit a bundle could make the runtime use all memory.
pub const LIMIT: u64 = 16 << 20;

/// A bundle whose configuration has the right types; whether it makes sense is
/// for [`validate`](crate::spec::validate::validate) to say.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// The bundle's directory, absolute.
    pub dir: PathBuf,
    /// Its configuration.
    pub spec: Spec,
    /// What was left out of the configuration, in sentences.
    pub warnings: Vec<String>,
}

impl Bundle {
    /// The configuration file's path.
    pub fn file(&self) -> PathBuf {
        self.dir.join("config.json")
    }
}

/// Reads `config.json` of a bundle.
///
/// # Errors
///
/// The file cannot be read, is larger than [`LIMIT`], is not JSON or has a
/// field of the wrong type.
pub fn read(bundle: &Path) -> Result<Bundle> {
    read_and(bundle, &mut |_| {})
}

/// The same, and `look` sees the bytes that it is made from.
///
/// # Errors
///
/// As for [`read`].
pub fn read_and(bundle: &Path, look: &mut dyn FnMut(&[u8])) -> Result<Bundle> {
    let dir = std::path::absolute(bundle)
        .map_err(|error| Error::io("find the bundle", bundle.display(), Sysno::getcwd, &error))?;
    let file = dir.join("config.json");
    let bytes = match read_limited(&file) {
        Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
            return Err(missing(&dir));
        }
        read => read.map_err(|error| error.of(&file))?,
    };
    look(&bytes);
    let (spec, warnings) = parse(&bytes, &file)?;
    Ok(Bundle {
        dir,
        spec,
        warnings,
    })
}

/// Reads the process of `exec --process`, with what was left out of it.
///
/// # Errors
///
/// As for [`read`].
pub fn read_process(path: &Path) -> Result<(Process, Vec<String>)> {
    let bytes = read_limited(path).map_err(|error| error.of(path))?;
    parse_process(&bytes, path)
}

/// The configuration in `bytes`, with what was left out of it; `file` is only
/// for messages.
///
/// # Errors
///
/// Not JSON (with line and column), or a field of the wrong type (with its
/// JSON pointer).
pub fn parse(bytes: &[u8], file: &Path) -> Result<(Spec, Vec<String>)> {
    match serde_json::from_slice(bytes) {
        Ok(spec) => Ok((spec, Vec::new())),
        Err(_) if bytes.trim_ascii() == b"null" => {
            Err(Error::Usage("config cannot be null".to_owned()))
        }
        Err(_) => parse_again(bytes, file, repair_spec),
    }
}

/// The same for a process by itself.
///
/// # Errors
///
/// As for [`parse`].
pub fn parse_process(bytes: &[u8], file: &Path) -> Result<(Process, Vec<String>)> {
    match serde_json::from_slice(bytes) {
        Ok(process) => Ok((process, Vec::new())),
        Err(_) => parse_again(bytes, file, |document, warnings| {
            repair_process(document, "", warnings);
        }),
    }
}

/// The same for limits by themselves: an object like `linux.resources`.
///
/// # Errors
///
/// As for [`parse`].
pub fn parse_resources(bytes: &[u8], file: &Path) -> Result<LinuxResources> {
    match serde_json::from_slice(bytes) {
        Ok(resources) => Ok(resources),
        Err(_) => parse_again(bytes, file, |_, _| {}).map(|(resources, _)| resources),
    }
}

/// Why a file of JSON could not be read.
#[derive(Debug)]
pub enum ReadError {
    /// The kernel's reason.
    Io(io::Error),
    /// It is larger than [`LIMIT`].
    TooLarge,
}

impl ReadError {
    /// The error about a file of this name.
    pub fn of(self, file: &Path) -> Error {
        match self {
            ReadError::Io(error) => Error::io("read", file.display(), Sysno::openat, &error),
            ReadError::TooLarge => {
                one_problem(file, "", format!("larger than {} MiB", LIMIT >> 20))
            }
        }
    }
}

/// Reads a file to its end, whatever it claims its size to be: a pipe has none.
///
/// # Errors
///
/// It cannot be read, or is larger than [`LIMIT`].
pub fn read_limited(path: &Path) -> Result<Vec<u8>, ReadError> {
    let file = File::open(path).map_err(ReadError::Io)?;
    let size = file.metadata().map_err(ReadError::Io)?.len();
    read_all(file, size)
}

/// The same for what is open already; `size` is how many bytes are expected.
///
/// # Errors
///
/// As for [`read_limited`].
pub fn read_all(from: impl Read, size: u64) -> Result<Vec<u8>, ReadError> {
    // One byte more than there is: `read` then needs no larger buffer to see the end.
    let capacity = usize::try_from(size.min(LIMIT)).unwrap_or(0) + 1;
    let mut bytes = Vec::with_capacity(capacity);
    let count = from
        .take(LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(ReadError::Io)?;
    if count as u64 > LIMIT {
        Err(ReadError::TooLarge)
    } else {
        Ok(bytes)
    }
}

/// Engines and people know runc's sentence; a bundle that is not there at all
/// deserves another.
fn missing(dir: &Path) -> Error {
    if dir.is_dir() {
        Error::Usage("JSON specification file config.json not found".to_owned())
    } else {
        Error::system(
            "open the bundle",
            dir.display(),
            Failure::of(Sysno::openat, libc::ENOENT),
        )
    }
}

fn one_problem(file: &Path, at: impl Into<String>, problem: impl Into<String>) -> Error {
    problems(file, vec![Problem::new(at, problem)])
}

fn problems(file: &Path, problems: Vec<Problem>) -> Error {
    Error::Spec {
        file: file.to_owned(),
        problems,
    }
}

/// Reads once more, without types first, then with them after `repair`.
fn parse_again<T: DeserializeOwned>(
    bytes: &[u8],
    file: &Path,
    repair: impl Fn(&mut Value, &mut Vec<String>),
) -> Result<(T, Vec<String>)> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let Document(mut document) = Deserialize::deserialize(&mut reader).map_err(|error| {
        let mut problem = Problem::of_json(bytes, &error);
        // What is wrong is in the text itself here, so its place there is the best name.
        problem.problem = error.to_string();
        problems(file, vec![problem])
    })?;
    reader
        .end()
        .map_err(|error| one_problem(file, "", error.to_string()))?;
    let mut warnings = Vec::new();
    repair(&mut document, &mut warnings);
    // Written and read again, for only a text has places.
    let text = document.to_string();
    let typed = serde_json::from_str(&text)
        .map_err(|error| problems(file, vec![Problem::of_json(text.as_bytes(), &error)]))?;
    Ok((typed, warnings))
}

/// JSON without types. Unlike `serde_json::Value` it refuses a key that appears
/// twice: readers differ in which one they take, and what one of them checked
/// must not be something else than what another one runs.
struct Document(Value);

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DocumentVisitor)
    }
}

struct DocumentVisitor;

impl<'de> Visitor<'de> for DocumentVisitor {
    type Value = Document;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Document, E> {
        Ok(Document(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Document, E> {
        Ok(Document(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Document, E> {
        Ok(Document(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Document, E> {
        Ok(Document(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Document, E> {
        Ok(Document(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Document, E> {
        Ok(Document(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Document, A::Error> {
        let mut array = Vec::new();
        while let Some(Document(element)) = elements.next_element()? {
            array.push(element);
        }
        Ok(Document(Value::Array(array)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Document, A::Error> {
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(A::Error::custom(format_args!("duplicate field `{key}`")));
            }
            let Document(value) = entries.next_value()?;
            object.insert(key, value);
        }
        Ok(Document(Value::Object(object)))
    }
}

/// Makes of a configuration what the types accept, wherever the runtime
/// specification asks to accept more.
fn repair_spec(document: &mut Value, warnings: &mut Vec<String>) {
    let Some(spec) = document.as_object_mut() else {
        return;
    };
    // Sections of other platforms: not ours to judge.
    for section in ["freebsd", "solaris", "vm", "windows", "zos"] {
        spec.remove(section);
    }
    if let Some(process) = spec.get_mut("process") {
        repair_process(process, "/process", warnings);
    }
}

fn repair_process(process: &mut Value, at: &str, warnings: &mut Vec<String>) {
    let Some(process) = process.as_object_mut() else {
        return;
    };
    // Absent, both are what they are in runc: root, and a working directory
    // that validation refuses together with everything else that is wrong.
    process
        .entry("user")
        .or_insert_with(|| Value::Object(Map::new()));
    process
        .entry("cwd")
        .or_insert_with(|| Value::String(String::new()));
    if let Some(Value::Object(sets)) = process.get_mut("capabilities") {
        for (set, names) in sets.iter_mut() {
            if let Value::Array(names) = names {
                drop_unknown_capabilities(names, &format!("{at}/capabilities/{set}"), warnings);
            }
        }
    }
    if let Some(Value::Array(flags)) = process
        .get_mut("scheduler")
        .and_then(|s| s.get_mut("flags"))
    {
        for flag in flags {
            spell_as_the_types_do(flag);
        }
    }
}

/// A capability this build has no name for cannot be given, which the runtime
/// specification wants said and not refused.
fn drop_unknown_capabilities(names: &mut Vec<Value>, at: &str, warnings: &mut Vec<String>) {
    let mut told = HashSet::new();
    names.retain(|name| {
        let unknown = name.is_string() && Capability::deserialize(name).is_err();
        if unknown && told.insert(name.to_string()) {
            warnings.push(format!("{at}: unknown capability {name} is left out"));
        }
        !unknown
    });
}

/// Two flags whose names in the runtime specification the types do not know.
fn spell_as_the_types_do(flag: &mut Value) {
    let spelling = match flag.as_str() {
        Some("SCHED_FLAG_RESET_ON_FORK") => "SCHED_RESET_ON_FORK",
        Some("SCHED_FLAG_DL_OVERRUN") => "SCHED_FLAG_D_L_OVERRUN",
        _ => return,
    };
    *flag = Value::String(spelling.to_owned());
}

#[cfg(test)]
mod tests;
