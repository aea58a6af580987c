"""Everyday sentences of known sentiment, made from frames and word lists: what film reviews alone do not teach."""

import random


def _words(text: str) -> list[str]:
    return text.split()


GOOD = _words("""
amazing awesome beautiful brilliant charming clever comfortable delicious delightful easy elegant enjoyable
entertaining excellent exciting fabulous fantastic fine flawless fresh friendly fun funny generous gorgeous good great
helpful honest impressive incredible inspiring interesting kind lovely magnificent marvelous memorable nice outstanding
perfect pleasant polite powerful quick reliable remarkable smart smooth solid spectacular splendid stunning superb tasty
terrific thoughtful useful warm welcoming wonderful worthwhile""")
BAD = _words("""
annoying appalling atrocious average awful awkward bad bland boring broken cheap clumsy cold confusing cruel
defective dirty disappointing disgusting dreadful dull faulty flimsy frustrating gross horrible inedible insulting lazy
lousy mediocre messy miserable nasty noisy offensive overpriced painful pathetic poor pointless ridiculous rotten rude
sad slow sloppy stale stupid tasteless tedious terrible tiresome ugly unacceptable uncomfortable unfair unfriendly
unhelpful unpleasant unreliable useless weak worthless wrong""")
LOVE = ("love", "like", "enjoy", "adore", "appreciate", "recommend", "admire")
HATE = ("hate", "dislike", "regret", "detest", "despise", "loathe", "can't stand", "am sick of", "am tired of")
NOT = ("do not", "don't", "did not", "didn't", "would not", "wouldn't", "can't")
GLAD = _words("happy glad delighted excited pleased thrilled proud grateful thankful satisfied impressed")
UPSET = _words("""
sad disappointed angry upset frustrated annoyed unhappy furious disgusted worried ashamed dissatisfied
bored""")
THINGS = _words("""
movie film book song album show game story phone laptop camera app website update product service hotel room
restaurant food meal pizza coffee breakfast dinner place staff waiter driver doctor teacher class course trip flight
airline car shop store delivery package price design quality sound screen battery weather day weekend party concert team
company project job experience idea plan answer city beach museum software library tool release result performance gift
dress jacket bed view neighborhood""")
DEGREES = ("", "", "", "very", "really", "so", "quite", "absolutely", "extremely", "truly", "pretty", "just")

# {same} and {also} are adjectives of the sentence's sentiment, {other} is one of the other sentiment.
FRAMES = (
    "the {thing} was {very} {same}", "the {thing} is {very} {same}", "this {thing} is {very} {same}", "this is {same}",
    "it was {very} {same}", "it's {very} {same}", "what a {same} {thing}", "a {very} {same} {thing}", "{very} {same}",
    "such a {same} {thing}", "i think the {thing} is {same}", "i thought the {thing} was {very} {same}",
    "my {thing} is {very} {same}", "we had a {same} {thing}", "the {thing} was {same} and the {topic} was {also}",
    "{same} {thing} and {also} {topic}", "that was {very} {same}", "their {thing} is {very} {same}",
    "the {thing} looks {very} {same}", "everything about the {thing} was {same}", "not {other}, {same}",
    "the {thing} was {other} at first but now it is {same}", "the {thing} turned out to be {same}",
    "i find this {thing} {very} {same}", "the {thing} in this {topic} is {same}",
)  # fmt: skip
DENIALS = (
    "the {thing} is not {other}", "the {thing} was not {other} at all", "this {thing} isn't {other}",
    "not {other} at all", "it is not {other}", "it wasn't {other} at all", "the {thing} was never {other}",
    "i don't think the {thing} is {other}", "there is nothing {other} about this {thing}",
)  # fmt: skip
WHO = ("i", "we", "i really", "my friends and i")
WHAT = ("this {thing}", "the {thing}", "it", "this", "you", "that {thing}", "my {thing}", "the {thing} and the {topic}")
FEELERS = ("i am", "we are", "i'm", "we're", "i was", "we were", "everyone was")
ABOUT = ("", "with the {thing}", "with this {thing}", "about the {thing}", "to see the {thing}", "to hear about it")
GLAD_ABOUT = ("to announce our {thing}", "to share this {thing} with you", "that the {thing} is over")
PRAISE = """thank you so much; five stars; i would buy it again; it made my day; works perfectly; exactly what i needed;
everything worked perfectly; could not be happier; couldn't be happier; it exceeded my expectations; well done;
nothing to complain about; i can't wait to go back; i will definitely come back; best day of my life; good job;
worth every penny; my kids love it; my new favorite; i had a great time; keep up the good work; this made me smile;
it is the best one i have ever had; no problems at all; it gets better every time; you won't regret it; not bad;
i have never been happier; we laughed all night; what a relief; congratulations; couldn't ask for more; no complaints;
not bad at all; not too bad; it was not bad; never had a bad meal there; i can't stop smiling; better than i expected;
everyone was so kind to us; it solved my problem"""
COMPLAINTS = """waste of money; what a waste of time; i want my money back; i want a refund; never again; one star;
i would not buy it again; would not recommend; do not buy this; don't waste your time; it stopped working; zero stars;
it broke after two days; it does not work; it doesn't work at all; it never arrived; i am never coming back;
the worst day of my life; worst meal i have ever had; not worth it; not worth the price; could have been better;
i expected more; nothing works; nothing good to say about it; i fell asleep; it made me sick; they ruined everything;
it keeps crashing; this is a scam; i was let down; i have had enough; what a mess; it was a disaster; not good;
a complete failure; not good at all; not great; not very good; it was not good; i wish i had stayed home; stay away;
nobody helped us; they lied to us; we waited for hours; it gets worse every time; i will never order from them again;
save your money; i don't like it; i do not like this; worse than i expected; it fails all the time"""


def everyday_sentences(count: int, seed: int) -> tuple[list[str], list[int]]:
    """Lower-case sentences and their labels, 1 for a good sentiment, by turns with 0 for a bad one."""
    chance = random.Random(seed)
    texts, labels = [], [index % 2 for index in range(count)]
    for label in labels:
        text = _sentence(chance, label)
        if chance.random() < 0.12:
            text += chance.choice((", ", ". ", " and ")) + _sentence(chance, label)
        texts.append(text + chance.choice(("", "", ".", ".", "!")))
    return texts, labels


def _sentence(chance: random.Random, label: int) -> str:
    same, other = (GOOD, BAD) if label else (BAD, GOOD)
    kinds = (_described, _denied, _liked, _felt, _said)
    frame = chance.choices(kinds, weights=(50, 12, 13, 12, 13))[0](chance, label)
    text = frame.format(
        same=chance.choice(same),
        also=chance.choice(same),
        other=chance.choice(other),
        thing=chance.choice(THINGS),
        topic=chance.choice(THINGS),
        very=chance.choice(DEGREES),
    )
    return " ".join(text.split())


def _described(chance: random.Random, label: int) -> str:
    return chance.choice(FRAMES)


def _denied(chance: random.Random, label: int) -> str:
    return chance.choice(DENIALS)


def _liked(chance: random.Random, label: int) -> str:
    verb = chance.choice(LOVE if label else HATE)
    if not label and chance.random() < 0.4:
        verb = f"{chance.choice(NOT)} {chance.choice(LOVE)}"
    return f"{chance.choice(WHO)} {verb} {chance.choice(WHAT)}"


def _felt(chance: random.Random, label: int) -> str:
    feeling = chance.choice(GLAD if label else UPSET)
    return f"{chance.choice(FEELERS)} {{very}} {feeling} {chance.choice(ABOUT + GLAD_ABOUT if label else ABOUT)}"


def _said(chance: random.Random, label: int) -> str:
    return " ".join(chance.choice((PRAISE if label else COMPLAINTS).split(";")).split())
