//! Bytes from the network: no panic, no memory beyond the bounds, and what decodes can be encoded and is then the same.

#![no_main]

use keyvigil_common::wire;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(batch) = wire::decode_batch(bytes) {
        // Another compressor may have made it smaller than ours does: then it does not fit.
        if let Ok(frame) = wire::encode_batch(&batch) {
            let again = wire::encode_batch(&wire::decode_batch(&frame).expect("what was encoded decodes")).expect("what fitted fits");
            // Compared as bytes: NaN is a value here, and differs from itself.
            assert_eq!(frame, again);
        }
    }
    if let Ok(push) = wire::decode_push(bytes) {
        assert_eq!(wire::decode_push(&wire::encode_push(&push).expect("what was decoded fits")).expect("what was encoded decodes"), push);
    }
    // Hostile differences to what was never theirs, and to what their sender may have had acknowledged before.
    if let Ok(Some(difference)) = wire::Difference::read(bytes) {
        for base in [bytes.to_vec(), Vec::new()] {
            if let Ok(opened) = difference.open(&wire::Base { name: difference.base, bytes: base }) {
                for (_, raw) in opened.batches {
                    let frame = raw.seal().expect("what fits a difference fits a frame");
                    assert_eq!(wire::Raw::open(&frame).expect("what was sealed opens"), raw);
                    let _ = raw.decode();
                }
            }
        }
    }
    if let Ok(ack) = wire::decode_ack(bytes) {
        // In the version that it came in: the one before cannot say all that this one can.
        let encode = |ack: &wire::Ack| wire::encode_ack(ack, bytes[3]).expect("what was decoded fits");
        let frame = encode(&ack);
        assert_eq!(encode(&wire::decode_ack(&frame).expect("what was encoded decodes")), frame);
    }
});
