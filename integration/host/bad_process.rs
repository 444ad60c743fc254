//! Programs that cannot run, users that cannot be: engines read 126 and 127 out of these words.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::cases::cases;
use crate::roles::Test;

cases! {
    ALL []: program_missing, program_not_in_path, program_is_directory, program_not_executable,
        interpreter_missing, carriage_return, not_a_program, wrong_architecture, loader_missing,
        cwd_missing, cwd_is_file, uid_of_nobody, exec_of_missing_program, exec_of_unexecutable,
        large_arguments, path_of_the_container;
}

#[track_caller]
fn refused(bundle: &Bundle, says: &[&str]) {
    bundle.run().code(1).says(says);
    bundle.assert_nothing_left();
}

fn program_missing(test: &Test) {
    let bundle = Bundle::new(test).raw_args(&["/bin/nope", "x"]);
    refused(
        &bundle,
        &["exec: \"/bin/nope\": stat /bin/nope: no such file or directory"],
    );
    bundle.refused(&["no such file or directory"]);
}

fn program_not_in_path(test: &Test) {
    let bundle = Bundle::new(test).raw_args(&["nope"]);
    refused(
        &bundle,
        &["exec: \"nope\": executable file not found in $PATH"],
    );
    bundle.refused(&["executable file not found in $PATH"]);
    // The runtime's own PATH has a shell; the container's decides.
    let bundle = Bundle::new(test).raw_args(&["sh"]);
    refused(&bundle, &["executable file not found in $PATH"]);
}

fn path_of_the_container(test: &Test) {
    let bundle = Bundle::new(test).raw_args(&["probe", "exit", "4"]);
    let bundle = bundle.edit(|config| config["process"]["env"] = json!(["PATH=/nowhere:/bin"]));
    bundle.run().code(4);
    let relative = Bundle::new(test).raw_args(&["./probe", "exit", "5"]);
    relative
        .edit(|config| config["process"]["cwd"] = json!("/bin"))
        .run()
        .code(5);
    let no_path = Bundle::new(test).raw_args(&["probe", "exit", "5"]);
    let bundle = no_path.edit(|config| config["process"]["env"] = json!(["PATH=/nowhere"]));
    refused(&bundle, &["executable file not found in $PATH"]);
}

fn program_is_directory(test: &Test) {
    let bundle = Bundle::new(test).raw_args(&["/bin"]);
    refused(&bundle, &["exec: \"/bin\": is a directory"]);
}

fn program_not_executable(test: &Test) {
    let bundle = Bundle::new(test).raw_args(&["/etc/passwd"]);
    refused(&bundle, &["exec: \"/etc/passwd\": permission denied"]);
}

fn interpreter_missing(test: &Test) {
    let bundle = Bundle::new(test).raw_args(&["/bin/script"]);
    bundle.program("bin/script", "#!/usr/bin/nothing -x\necho hi\n");
    refused(
        &bundle,
        &[
            "exec: \"/bin/script\"",
            "no such file or directory",
            "interpreter",
        ],
    );
}

fn carriage_return(test: &Test) {
    let bundle = Bundle::new(test).raw_args(&["/bin/script"]);
    bundle.program("bin/script", "#!/bin/probe\r\nexit 0\r\n");
    refused(
        &bundle,
        &[
            "exec: \"/bin/script\"",
            "no such file or directory",
            "carriage return",
        ],
    );
}

fn not_a_program(test: &Test) {
    let bundle = Bundle::new(test).raw_args(&["/bin/text"]);
    bundle.program("bin/text", "echo no first line\n");
    refused(&bundle, &["exec: \"/bin/text\"", "exec format error"]);
    bundle.program("bin/text", "");
    refused(&bundle, &["exec: \"/bin/text\""]);
}

/// An ELF header and one PT_INTERP, enough for the kernel to look for the loader.
fn elf(machine: u16, interpreter: &str) -> Vec<u8> {
    let mut file = vec![0u8; 0x40 + 0x38];
    file[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\x00");
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(16, &2u16.to_le_bytes());
    put(18, &machine.to_le_bytes());
    put(20, &1u32.to_le_bytes());
    put(24, &0x40_0000u64.to_le_bytes());
    put(32, &0x40u64.to_le_bytes());
    put(52, &64u16.to_le_bytes());
    put(54, &56u16.to_le_bytes());
    put(56, &1u16.to_le_bytes());
    put(0x40, &3u32.to_le_bytes());
    put(0x44, &4u32.to_le_bytes());
    let length = interpreter.len() as u64 + 1;
    put(0x48, &0x78u64.to_le_bytes());
    put(0x60, &length.to_le_bytes());
    put(0x68, &length.to_le_bytes());
    file.extend_from_slice(interpreter.as_bytes());
    file.push(0);
    file
}

/// EM_X86_64, EM_AARCH64, and the other of the two.
fn machines() -> (u16, u16) {
    if cfg!(target_arch = "x86_64") {
        (62, 183)
    } else {
        (183, 62)
    }
}

fn wrong_architecture(test: &Test) {
    let bundle = Bundle::new(test).raw_args(&["/bin/foreign"]);
    bundle.program("bin/foreign", elf(machines().1, "/bin/probe"));
    refused(
        &bundle,
        &[
            "exec: \"/bin/foreign\"",
            "exec format error",
            "architecture",
        ],
    );
}

fn loader_missing(test: &Test) {
    let bundle = Bundle::new(test).raw_args(&["/bin/dynamic"]);
    bundle.program("bin/dynamic", elf(machines().0, "/lib/ld-nowhere.so"));
    refused(&bundle, &["exec: \"/bin/dynamic\"", "loader"]);
}

/// A missing directory is made inside, as runc does, also below a root that
/// the container finds read-only. Where it cannot be made, 127 is not the answer.
fn cwd_missing(test: &Test) {
    let there = |config: &mut Value| config["process"]["cwd"] = json!("/not/there");
    for writable in [true, false] {
        let mut bundle = Bundle::new(test).args(&["report"]).edit(there);
        if writable {
            bundle = bundle.writable();
        }
        assert_eq!(bundle.run().success().json()["cwd"], "/not/there");
        let made = fs::metadata(bundle.rootfs().join("not/there"));
        let mode = made.map(|made| made.permissions().mode() & 0o7777);
        assert_eq!(mode.ok(), Some(0o755));
        bundle.assert_nothing_left();
    }
    let bundle = Bundle::new(test).args(&["exit", "0"]);
    let bundle = bundle.edit(|config| config["process"]["cwd"] = json!("/proc/not/there"));
    let output = bundle.run().failure();
    output
        .says(&["/proc/not/there"])
        .never_says(&["no such file or directory"]);
    bundle.assert_nothing_left();
}

fn cwd_is_file(test: &Test) {
    let bundle = Bundle::new(test).args(&["exit", "0"]);
    let bundle = bundle.edit(|config| config["process"]["cwd"] = json!("/bin/probe"));
    bundle.run().failure().says(&["/bin/probe"]);
    bundle.assert_nothing_left();
}

/// 4294967295 is "no change" to the kernel: it must never end up as uid 0.
fn uid_of_nobody(test: &Test) {
    for user in [
        json!({ "uid": 4_294_967_295_u32, "gid": 0 }),
        json!({ "uid": 0, "gid": 4_294_967_295_u32 }),
        json!({ "uid": 0, "gid": 0, "additionalGids": [4_294_967_295_u32] }),
    ] {
        let bundle = Bundle::new(test).args(&["exit", "0"]);
        bundle
            .edit(|config| config["process"]["user"] = user)
            .refused(&["4294967295"]);
    }
}

fn exec_of_missing_program(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.ready();
    let output = container.exec_call(&[], &["/bin/nope"]).output().code(255);
    output.says(&["exec failed", "no such file or directory"]);
    let output = container.exec_call(&[], &["nope"]).output().code(255);
    output.says(&["executable file not found in $PATH"]);
    assert_eq!(container.status(), "running");
    container.end();
}

fn exec_of_unexecutable(test: &Test) {
    let bundle = Bundle::new(test).args(&["sleep"]);
    let container = bundle.ready();
    container
        .exec_call(&[], &["/etc/passwd"])
        .output()
        .code(255)
        .says(&["permission denied"]);
    container
        .exec_call(&["--cwd", "/gone"], &["/bin/probe", "exit", "0"])
        .output()
        .code(255)
        .says(&["/gone"]);
    container.end();
}

fn large_arguments(test: &Test) {
    let big = "x".repeat(100_000);
    let bundle = Bundle::new(test).args(&["env", "BIG"]);
    let bundle = bundle.edit(|config| config["process"]["env"] = json!([format!("BIG={big}")]));
    let output = bundle.run().success();
    assert_eq!(output.text().len(), 100_004);
    // One string longer than the kernel takes (MAX_ARG_STRLEN).
    let bundle = Bundle::new(test).args(&["exit", &"1".repeat(200_000)]);
    bundle.run().failure();
    bundle.assert_nothing_left();
}
