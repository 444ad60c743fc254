use super::*;

#[test]
fn numbers_in_octal_and_binary() {
    let read = |field: &[u8]| signed_number(field, "x").ok();
    assert_eq!(read(b"0000644\0"), Some(0o644));
    assert_eq!(read(b"  644 \0 "), Some(0o644));
    assert_eq!(read(b"77777777777\0"), Some(0o77_777_777_777));
    assert_eq!(read(b"\0\0\0\0"), Some(0));
    assert_eq!(read(b"\x80\0\0\0\0\0\0\x01\0\0\0\0"), Some(1 << 32));
    assert_eq!(
        read(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe"),
        Some(-2)
    );
    assert_eq!(
        read(b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
        None
    );
    for wrong in ["9", "-1", "0x1", "1 1", "+1"] {
        assert_eq!(read(wrong.as_bytes()), None, "{wrong}");
    }
}

#[test]
fn any_bytes_are_refused_without_a_panic() {
    // What fuzz/run does at length: here only that nothing overflows at once.
    let mut state = 1u32;
    for length in 0..2000 {
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state.to_le_bytes()[3]
            })
            .collect();
        let mut reader = Reader::new(&bytes[..]);
        while let Ok(Some(_)) = reader.next_entry() {}
    }
}
