//! The program: its arguments, its environment, and where it is looked for.

use std::ffi::CString;

use oci_spec::runtime::Process;

use super::{Program, c_string};
use crate::error::Problem;

/// The program, with the environment as the container will see it.
///
/// Of a name given twice the last value counts. PATH is the container's own:
/// the runtime's must not decide what is executed.
pub fn program(process: &Process, extra: &[String]) -> Result<Program, Problem> {
    let arguments = process.args().clone().unwrap_or_default();
    let mut environment: Vec<String> = Vec::new();
    for entry in process.env().iter().flatten().chain(extra) {
        let name = entry.split('=').next().unwrap_or_default();
        environment.retain(|kept| kept.split('=').next() != Some(name));
        environment.push(entry.clone());
    }
    let path = environment
        .iter()
        .find_map(|entry| entry.strip_prefix("PATH="));
    let candidates = candidates(arguments.first().map_or("", String::as_str), path);
    let c_strings = |list: Vec<String>, at: &str| -> Result<Vec<CString>, Problem> {
        list.into_iter()
            .enumerate()
            .map(|(i, text)| c_string(text, &format!("{at}/{i}")))
            .collect()
    };
    Ok(Program {
        candidates: c_strings(candidates, "/process/args")?,
        arguments: c_strings(arguments, "/process/args")?,
        environment: c_strings(environment, "/process/env")?,
    })
}

/// Where to look for a program, as execvp(3) does but never in the working directory.
fn candidates(name: &str, path: Option<&str>) -> Vec<String> {
    if name.contains('/') {
        return vec![name.to_owned()];
    }
    path.unwrap_or_default()
        .split(':')
        .filter(|directory| directory.starts_with('/'))
        .map(|directory| format!("{}/{name}", directory.trim_end_matches('/')))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_for_in_absolute_directories_only() {
        assert_eq!(
            candidates("sh", Some("/bin:.::relative:/usr/bin/")),
            ["/bin/sh", "/usr/bin/sh"]
        );
        assert_eq!(candidates("./sh", Some("/bin")), ["./sh"]);
        assert!(candidates("sh", None).is_empty());
    }

    #[test]
    fn the_last_value_of_a_name_counts() {
        let process: Process = serde_json::from_str(
            r#"{"cwd":"/","user":{"uid":0,"gid":0},"args":["a"],"env":["A=1","B=2","A=3"]}"#,
        )
        .unwrap();
        let program = program(&process, &[]).unwrap();
        assert_eq!(program.environment, [c"B=2".to_owned(), c"A=3".to_owned()]);
    }
}
