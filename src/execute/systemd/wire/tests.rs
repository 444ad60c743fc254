use super::*;

const METHOD: Method<'_> = Method {
    destination: "org.x",
    path: "/org/x",
    interface: "org.x.I",
    member: "Do",
};

/// A signal with a string, as a manager's bus would pass it on.
fn signal() -> Vec<u8> {
    let mut body = Writer::default();
    body.text("done");
    let mut bytes = call(7, &METHOD, "s", body);
    bytes[1] = 4;
    bytes
}

#[test]
fn values_are_aligned_as_the_specification_says() {
    let mut writer = Writer::default();
    writer.text("a");
    writer.u64(1);
    assert_eq!(
        writer.into_bytes(),
        [1, 0, 0, 0, b'a', 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
    );
    // The padding before the first element is not part of an array's size.
    let mut writer = Writer::default();
    writer.array(8, |w| w.u64(9));
    assert_eq!(
        writer.into_bytes(),
        [8, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]
    );
    let mut writer = Writer::default();
    writer.variant(&Value::Pids(vec![258]));
    assert_eq!(
        writer.into_bytes(),
        [2, b'a', b'u', 0, 4, 0, 0, 0, 2, 1, 0, 0]
    );
    let mut writer = Writer::default();
    writer.variant(&Value::Bytes(vec![5]));
    assert_eq!(writer.into_bytes(), [2, b'a', b'y', 0, 1, 0, 0, 0, 5]);
}

#[test]
fn a_message_reads_as_it_was_written() {
    let bytes = signal();
    let message = parse(&bytes).unwrap();
    assert_eq!(message.kind, Kind::Signal);
    assert_eq!(message.serial, 7);
    assert_eq!(message.member.as_deref(), Some("Do"));
    assert_eq!(message.signature, "s");
    assert_eq!(Reader::new(&message.body).text(), Ok("done"));
    assert_eq!(
        measure(bytes.first_chunk().unwrap()),
        Ok((bytes.len(), true))
    );
}

#[test]
fn no_cut_and_no_flipped_byte_does_harm() {
    let whole = signal();
    for end in 0..whole.len() {
        assert_eq!(parse(&whole[..end]), Err(Malformed), "{end} bytes");
    }
    for at in 0..whole.len() {
        for value in 0..=u8::MAX {
            let mut bytes = whole.clone();
            bytes[at] = value;
            // Only that it ends and stays inside is asked for here.
            if let Ok(message) = parse(&bytes) {
                let mut reader = Reader::new(&message.body);
                while reader.text().is_ok() {}
            }
        }
    }
}

#[test]
fn lengths_beyond_the_limit_are_refused() {
    let mut prologue = [0; PROLOGUE];
    prologue[0] = b'l';
    for (at, value) in [(4, u32::MAX), (12, u32::MAX), (4, 1 << 20), (12, 1 << 20)] {
        let mut bytes = prologue;
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        assert_eq!(measure(&bytes), Err(Malformed), "{value} at {at}");
    }
    prologue[0] = b'x';
    assert_eq!(measure(&prologue), Err(Malformed));
    // Big-endian lengths are understood, so that such a message can be passed over.
    prologue[0] = b'B';
    prologue[7] = 8;
    assert_eq!(measure(&prologue), Ok((24, false)));
}

#[test]
fn strings_must_end_and_be_text() {
    let cases: [&[u8]; 6] = [
        &[1, 0, 0, 0, b'a'],
        &[1, 0, 0, 0, b'a', b'b'],
        &[1, 0, 0, 0, 0, 0],
        &[1, 0, 0, 0, 0xff, 0],
        &[0xff, 0xff, 0xff, 0xff, b'a', 0],
        &[1, 0, 0],
    ];
    for bytes in cases {
        assert_eq!(Reader::new(bytes).text(), Err(Malformed), "{bytes:?}");
    }
}

#[test]
fn variants_do_not_nest_without_end() {
    let mut bytes = Vec::new();
    for _ in 0..40 {
        bytes.extend([1, b'v', 0]);
    }
    bytes.extend([1, b'y', 0, 0]);
    assert_eq!(Reader::new(&bytes).skip("v", 0), Err(Malformed));
    assert_eq!(Reader::new(&bytes[60..]).skip("v", 0), Ok(""));
    // A signature of two values in one variant.
    assert_eq!(
        Reader::new(&[2, b'y', b'y', 0, 1, 1]).skip("v", 0),
        Err(Malformed)
    );
}
