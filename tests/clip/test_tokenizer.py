import pytest

from clip import clip
from clip.simple_tokenizer import SimpleTokenizer

# Ids of OpenAI's tokenizer.
KNOWN = {
    "a photo of a cat": [320, 1125, 539, 320, 2368],
    "hello world!": [3306, 1002, 256],
    "Hello   WORLD!": [3306, 1002, 256],
    "a diagram": [320, 22697],
    "<|startoftext|>": [49406],
    "<|endoftext|>": [49407],
    "": [],
}


@pytest.mark.parametrize("text", KNOWN)
def test_known_ids(text):
    assert SimpleTokenizer().encode(text) == KNOWN[text]


def test_special_tokens_keep_openais_spelling():
    bpe = SimpleTokenizer()
    assert bpe.encoder["<|startoftext|>"] == 49406 and bpe.encoder["<|endoftext|>"] == 49407
    assert bpe.decoder[49407] == "<|endoftext|>"
    # open_clip's spelling is ordinary text for OpenAI's tokenizer
    assert len(bpe.encode("<start_of_text>")) > 1


@pytest.mark.parametrize("text", ["naïve café ☕ 猫", "it's 3/4 long (really) &amp; <b>", "x" * 40])
def test_decode_gives_the_text_back(text):
    bpe = SimpleTokenizer()
    again = bpe.encode(bpe.decode(bpe.encode(text)))
    assert again == bpe.encode(text) and again


def test_tokenize_pads_and_marks():
    ids = clip.tokenize(["a photo of a cat", "hello world!"])
    assert ids.shape == (2, 77)
    assert ids[0, :8].tolist() == [49406, 320, 1125, 539, 320, 2368, 49407, 0]
    assert ids[1].argmax() == 4


def test_tokenize_too_long():
    with pytest.raises(RuntimeError, match="context length is 77"):
        clip.tokenize("cat " * 100)
    cut = clip.tokenize("cat " * 100, truncate=True)
    assert cut[0, -1] == 49407 and (cut[0, 1:-1] == 2368).all()
