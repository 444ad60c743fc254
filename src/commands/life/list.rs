//! The containers of a state root.

use std::io::Write;
use std::path::Path;

use super::state::State;
use super::users;
use crate::audit::{self, Safe};
use crate::error::{Error, Life, Result};
use crate::state::{Container, Record, Root, of_users};

/// How the list is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Columns for people.
    Table,
    /// One line of JSON.
    Json,
    /// The ids, one per line.
    Ids,
}

/// Whose containers are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// Those of the state root.
    Callers,
    /// Those of all users as well.
    Everybodys,
}

/// Prints all containers of `root`. A root that does not exist has none, unless
/// it is `explicit`: then it was named by mistake. What cannot be read is given
/// to `broken` and left out, so that one bad record does not hide the others.
///
/// # Errors
/// [`Error::System`] for the root or the output.
pub(crate) fn list(
    root: &Path,
    explicit: bool,
    whose: Whose,
    form: Form,
    out: &mut dyn Write,
    broken: &mut dyn FnMut(&str, &Error),
) -> Result<()> {
    if whose == Whose::Everybodys {
        users::for_root_only()?;
    }
    let opened = if explicit {
        Some(Root::open(root)?)
    } else {
        Root::open_if_any(root)?
    };
    let mut found = Vec::new();
    if let Some(opened) = opened {
        for id in opened.list()? {
            match load(&opened, &id) {
                Ok(Some(one)) => found.push(one),
                Ok(None) => {}
                Err(error) => broken(&id, &error),
            }
        }
    }
    let others = match whose {
        Whose::Callers => Vec::new(),
        Whose::Everybodys => of_others(broken)?,
    };
    let records = found.iter().map(|(_, record)| record);
    let records = records.chain(others.iter().map(|(_, _, record)| record));
    if form == Form::Ids {
        let ids: String = records.map(|record| format!("{}\n", record.id)).collect();
        return super::output(out.write_all(ids.as_bytes()));
    }
    let names = Names::read();
    let owners: Vec<String> = found
        .iter()
        .map(|(_, record)| names.of(record.owner))
        .chain(others.iter().map(|(uid, _, _)| names.of(*uid)))
        .collect();
    let mut states = Vec::new();
    for ((container, record), owner) in found.iter().zip(&owners) {
        match State::of(container, record, owner) {
            Ok(state) => states.push(state),
            Err(error) => broken(&record.id, &error),
        }
    }
    for ((uid, container, record), owner) in others.iter().zip(&owners[found.len()..]) {
        let init = users::init(record, *uid);
        let status = users::status(container, record, init.as_ref());
        states.push(State::with(record, owner, status));
    }
    let text = match form {
        Form::Json => audit::harmless_json(&json(&states)?),
        _ => table(&states),
    };
    super::output(out.write_all(text.as_bytes()))
}

/// Containers of other users, each with its user.
fn of_others(broken: &mut dyn FnMut(&str, &Error)) -> Result<Vec<(u32, Container, Record)>> {
    let mut report = |path: &Path, problem: String| {
        let file = path.to_owned();
        broken(&path.display().to_string(), &Error::State { file, problem });
    };
    let mut found = Vec::new();
    for user in of_users(&mut report)? {
        let containers = user.containers(&mut report).into_iter();
        found.extend(containers.map(|(container, record)| (user.uid, container, record)));
    }
    Ok(found)
}

/// `None` for a container whose creation has only begun, or that was deleted meanwhile.
fn load(root: &Root, id: &str) -> Result<Option<(Container, Record)>> {
    let container = match root.find(id) {
        Err(Error::Life(Life::DoesNotExist)) => return Ok(None),
        found => found?,
    };
    match container.load() {
        Ok(record) => Ok(Some((container, record))),
        Err(Error::Life(Life::DoesNotExist)) => {
            if container.is_locked() || root.find(id).is_err() {
                return Ok(None);
            }
            Err(Error::State {
                file: container.path().to_owned(),
                problem: format!(
                    "left over from an interrupted creation; remove it with: capsid delete --force {id}"
                ),
            })
        }
        Err(error) => Err(error),
    }
}

/// One line; `null` and not `[]` when there are none, as Go writes it.
fn json(states: &[State<'_>]) -> Result<String> {
    if states.is_empty() {
        return Ok("null\n".into());
    }
    let json = serde_json::to_string(states)
        .map_err(|e| Error::Usage(format!("the list cannot be written as JSON: {e}")))?;
    Ok(json + "\n")
}

/// Columns at least 12 wide, three spaces apart, as runc prints them.
fn table(states: &[State<'_>]) -> String {
    let header = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let mut rows = vec![header];
    for state in states {
        rows.push([
            state.id.to_owned(),
            state.pid.to_string(),
            state.status.to_owned(),
            Safe(&state.bundle.to_string_lossy()).to_string(),
            Safe(state.created).to_string(),
            state.owner.to_owned(),
        ]);
    }
    let mut widths = [0; 5];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = 12.max(cell.chars().count() + 3).max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        for (cell, width) in row.iter().zip(widths) {
            text.push_str(&format!("{cell:width$}"));
        }
        // The last column has no width.
        text.push_str(&row[5]);
        text.push('\n');
    }
    text
}

/// User names by id, from `/etc/passwd`.
///
/// Not through the C library: a static binary would load the machine's name
/// service modules into itself.
struct Names(String);

impl Names {
    fn read() -> Self {
        // Without it ids are shown.
        Self(std::fs::read_to_string("/etc/passwd").unwrap_or_default())
    }

    fn of(&self, uid: u32) -> String {
        let name = self.0.lines().find_map(|line| {
            let mut fields = line.split(':');
            let (name, id) = (fields.next()?, fields.nth(1)?);
            (id.parse() == Ok(uid)).then_some(name)
        });
        name.map_or_else(|| format!("#{uid}"), str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_have_names_or_numbers() {
        let names = Names("root:x:0:0:root:/root:/bin/sh\nbad line\nann:x:1000:7::/:/x\n".into());
        assert_eq!(names.of(0), "root");
        assert_eq!(names.of(1000), "ann");
        assert_eq!(names.of(7), "#7");
    }

    #[test]
    fn none_is_null() {
        assert_eq!(json(&[]).unwrap(), "null\n");
        assert_eq!(
            table(&[]),
            "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n"
        );
    }
}
