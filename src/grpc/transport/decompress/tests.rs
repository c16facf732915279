//! Decompression without a network.

use std::{convert::Infallible, io::Write as _};

use proptest::prelude::*;

use super::*;

const MAX: usize = 256 * 1024;

fn compressed(encoding: Encoding, message: &[u8]) -> Vec<u8> {
    match encoding {
        Encoding::Gzip => {
            let level = flate2::Compression::default();
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(message).unwrap();
            encoder.finish().unwrap()
        }
        Encoding::Zstd => zstd::encode_all(message, 3).unwrap(),
    }
}

fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[flag], &length[..], message].concat()
}

fn added(
    decompressor: &mut MessageDecompressor,
    data: &[u8],
) -> Result<Bytes, DecompressError<Infallible>> {
    decompressor.add(data, |_| Ok(()))
}

#[test]
fn the_steps_of_each_compressed_message_are_its_content() {
    for encoding in [Encoding::Gzip, Encoding::Zstd] {
        let messages = [vec![1; 3], vec![], (0..=255).cycle().take(3 * STEP).collect()];
        let mut data = framed(0, b"not compressed");
        data.extend(messages.iter().flat_map(|message| framed(1, &compressed(encoding, message))));
        let mut steps: Vec<Vec<u8>> = Vec::new();
        let mut decompressor = MessageDecompressor::new(encoding, MAX);
        let out = decompressor.add(&data, |step| {
            match step {
                Decompressed::Start => steps.push(Vec::new()),
                Decompressed::Data { data, .. } => steps.last_mut().unwrap().extend(data),
            }
            Ok::<_, Infallible>(())
        });
        assert!(out.is_ok());
        assert_eq!(steps, messages);
    }
}

#[test]
fn a_compression_bomb_is_charged_in_steps_and_stopped_at_the_maximum() {
    for encoding in [Encoding::Gzip, Encoding::Zstd] {
        let bomb = framed(1, &compressed(encoding, &vec![0; 100 * MAX]));
        let mut charges = vec![0];
        let mut decompressor = MessageDecompressor::new(encoding, MAX);
        let stopped = decompressor.add(&bomb, |step| {
            if let Decompressed::Data { data, total } = step {
                assert!(data.len() <= STEP);
                charges.push(total);
            }
            Ok::<_, Infallible>(())
        });
        assert!(matches!(stopped, Err(DecompressError::TooLarge)), "{encoding:?}");
        assert!(charges.windows(2).all(|pair| pair[1] - pair[0] <= STEP + PREFIX), "{charges:?}");
        assert!(charges.iter().all(|bytes| *bytes <= MAX + PREFIX), "{charges:?}");
    }
}

#[test]
fn decompression_stops_where_the_charge_is_rejected() {
    let message = framed(1, &compressed(Encoding::Zstd, &vec![0; MAX]));
    let mut last = 0;
    let stopped = MessageDecompressor::new(Encoding::Zstd, MAX).add(&message, |step| {
        if let Decompressed::Data { total, .. } = step {
            last = total;
        }
        if last > 2 * STEP { Err("no memory") } else { Ok(()) }
    });
    assert!(matches!(stopped, Err(DecompressError::Rejected("no memory"))));
    assert!(last <= 3 * STEP + PREFIX, "{last}");
}

#[test]
fn a_message_of_the_maximum_passes() {
    for encoding in [Encoding::Gzip, Encoding::Zstd] {
        let data = framed(1, &compressed(encoding, &vec![7; MAX]));
        let out = added(&mut MessageDecompressor::new(encoding, MAX), &data).unwrap();
        assert_eq!(out, framed(0, &vec![7; MAX]));
    }
}

#[test]
fn invalid_data_is_an_error() {
    for encoding in [Encoding::Gzip, Encoding::Zstd] {
        let data = framed(1, b"not compressed");
        let refused = added(&mut MessageDecompressor::new(encoding, MAX), &data);
        assert!(matches!(refused, Err(DecompressError::Invalid(_))), "{refused:?}");
    }
}

#[test]
fn an_incomplete_message_is_kept_for_the_decoder() {
    let mut decompressor = MessageDecompressor::new(Encoding::Gzip, MAX);
    let data = framed(1, &[1; 10]);
    assert!(added(&mut decompressor, &data[..12]).unwrap().is_empty());
    assert_eq!(decompressor.take_incomplete().unwrap(), data[..12]);
    assert_eq!(decompressor.take_incomplete(), None);
}

proptest! {
    #[test]
    fn messages_are_decompressed_for_any_split_into_frames(
        messages in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..90)), 0..5),
        cuts in prop::collection::vec(1_usize..40, 1..20),
        is_gzip in any::<bool>(),
    ) {
        let encoding = if is_gzip { Encoding::Gzip } else { Encoding::Zstd };
        let (mut data, mut expected) = (Vec::new(), Vec::new());
        for (is_compressed, message) in &messages {
            match is_compressed {
                true => data.extend(framed(1, &compressed(encoding, message))),
                false => data.extend(framed(0, message)),
            }
            expected.extend(framed(0, message));
        }
        let mut decompressor = MessageDecompressor::new(encoding, MAX);
        let (mut out, mut rest, mut cuts) = (Vec::new(), data.as_slice(), cuts.iter().cycle());
        while !rest.is_empty() {
            let (now, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            out.extend(added(&mut decompressor, now).unwrap());
            rest = later;
        }
        prop_assert_eq!(out, expected);
        prop_assert!(decompressor.take_incomplete().is_none());
    }

    #[test]
    fn arbitrary_data_never_panics(data in prop::collection::vec(any::<u8>(), 0..300)) {
        for encoding in [Encoding::Gzip, Encoding::Zstd] {
            let _ = added(&mut MessageDecompressor::new(encoding, 64), &data);
        }
    }
}
