"""English."""

import re

from genkan.cache.lexicon import (
    Lexicon,
    groups,
    longest,
    named,
    no_role,
    patterns,
    phrase_book,
    same,
    sides,
    valued,
    words,
)

_DOUBLED = re.compile(r"(?:bb|dd|gg|mm|nn|pp|rr|tt)$")
_IRREGULAR = valued(
    "paid:pay bought:buy sold:sell lost:lose sent:send got:get gotten:get went:go gone:go made:make took:take "
    "taken:take gave:give given:give found:find kept:keep left:leave met:meet read:read said:say seen:see "
    "saw:see shown:show spoke:speak spoken:speak stolen:steal told:tell thought:think understood:understand "
    "won:win wrote:write written:write broke:break broken:break chose:choose chosen:choose came:come did:do "
    "done:do ate:eat eaten:eat fell:fall felt:feel flew:fly forgot:forget forgotten:forget grew:grow held:hold "
    "knew:know known:know led:lead lent:lend ran:run rose:rise spent:spend taught:teach wore:wear "
    "children:child men:man women:woman people:person feet:foot teeth:tooth lives:life wives:wife better:good "
    "best:good worse:bad worst:bad bigger:big biggest:big could:can might:may dying:die lying:lie",
    same,
)


def stem(word: str) -> str:
    """The word without plural, -ed, -ing and a last e. Crude, and the same for both questions: that is enough."""
    word = _IRREGULAR.get(word, word)
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = f"{word[:-3]}y" if word.endswith("ies") and len(word) > 4 else word[:-1]
    for ending in ("ing", "ed"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            word = word[:-1] if _DOUBLED.search(word) else word
            break
    return word[:-1] if len(word) > 3 and word.endswith("e") else word


_PHRASES = phrase_book("""
enable: turn on, switch on, turned on, switched on, turning on, power on
disable: turn off, switch off, turned off, switched off, turning off, shut off, power off
login: log in, sign in, logging in, signing in, logged in, signed in, log into, sign into, log on
logout: log out, sign out, logging out, signing out, log off, sign off
signup: sign up, signing up, signed up
phone: cell phone, mobile phone, phone number, telephone number
email: e mail, email address, mail address
find: find out, look up
fix: sort out
cancel: call off
start: set up, setting up, start up
return: send back, give back, bring back
delete: get rid of, take off, wipe out
learn: get better at
lose weight: slim down
usa: united states of america, united states, the us, the states
uk: united kingdom, great britain
artificialintelligence: artificial intelligence
2fa: two factor authentication, two step verification, 2 step verification, two factor, 2 factor
money back: refund money
asap: as soon as possible
different: not the same
unable: no longer able
""")

_MEANING = groups(
    """
color, colour
favorite, favourite
center, centre
buy, purchase, acquire
cancel, terminate
fix, repair, resolve, solve, troubleshoot, mend
change, update, modify, edit, alter, amend, adjust
delete, remove, erase
get, obtain, receive, retrieve
start, begin, commence, launch
stop, cease, quit
end, finish, conclude
big, large, huge
small, little, tiny
fast, quick, quickly, rapidly, rapid
quickest, fastest
good, great, nice, effective, ideal, top
bad, terrible, awful, poor
phone, cellphone, mobile, telephone, smartphone
price, cost, fee, charge, expense, rate
company, firm, business
job, career, occupation
movie, film
picture, photo, image, photograph, pic
car, automobile, vehicle
child, kid
parcel, package
ship, deliver, delivery, shipment, shipping
help, assist, assistance, support
contact, reach
find, locate, discover
choose, select, pick
show, display
buyer, customer, client
allow, permit, let
need, require
happen, occur
common, typical
important, essential, crucial
difference, distinction, differ
way, method, approach
reason, cause
meaning, mean, definition, define
benefit, advantage, perk
drawback, disadvantage, downside
improve, enhance, boost
increase, raise
reduce, decrease, lower, lessen
earn, earning
learn, study
create, make, build
explain, describe, clarify
doctor, physician
attorney, lawyer
house, home
bike, bicycle
plane, airplane, aircraft
vacation, holiday
password, passcode
signin, login
registration, register, signup, enrol, enroll
account, profile
app, application
site, website, webpage
laptop, notebook
weird, strange
true, real
smart, intelligent
happy, glad
quit, resign
university, college
exam, test
salary, wage
illness, disease, sickness
eliminate, rid
transfer, move
refund, reimbursement, reimburse
faulty, defective, damaged, broken
invoice, bill
verify, confirm
bug, glitch
usa, us, america, american
uk, britain
india, indian
2fa, mfa
""",
    stem,
)

_FILLER = words(
    "a an the this that these those it its is are was were be been being am do does did doing have has had having "
    "will would shall should can could may might must ought to of in on at by for with from into onto as about and or "
    "but if then so than too very really just also even still there here i me my mine myself we us our you your "
    "yours one ones someone somebody anyone anybody something anything thing stuff person people what which who whom "
    "whose where when why how some any please kindly help tell know want wish like need looking look trying try "
    "possible able way ways possibly quick question hi hello hey thanks thank get go going let thing exactly actually "
    "someday explain show step steps best good when's what's how's s re ve ll d m up out off over down wondering "
    "wonder sure idea suggest recommend advice give say mean think find us ok okay dear sir guide gonna want "
    "not no never cannot unable without none "
    "they them their become becomes various truly "
    "much many proper properly actual such ever already yet well make use using used take right",
    stem,
) - words("us use mean", stem)

LEXICON = Lexicon(
    name="en",
    stem=stem,
    phrases=_PHRASES,
    phrase_words=longest(_PHRASES),
    meaning=_MEANING,
    filler=_FILLER,
    negation=re.compile(
        r"\b(?:not|no|never|none|nobody|nothing|nowhere|neither|nor|without|cannot|unable|refus(?:e|es|ed)|impossible"
        r"|fail(?:s|ed|ing)?|incapable|isnt|doesnt|dont|cant|wont|didnt|wasnt|arent|couldnt|shouldnt|wouldnt|hasnt)\b"
        r"|\bkeep(?:s|ing)?\b(?: \w+){1,4} from \w+ing\b"
    ),
    affirmed=re.compile(r"\b(?:why not|not only|or not|no matter|if not|why do not (?:you|we)|is not it)\b"),
    poles=sides(
        """
enable, activate, unlock, unblock, unmute, unhide, allow | disable, deactivate, lock, block, mute, hide, forbid
open | close, shut
buy | sell
increase, up, gain, grow, rise, upgrade, expand | reduce, down, lose, shrink, fall, drop, downgrade, cut
start, begin, resume, restart | stop, end, pause, suspend, halt
add, insert, create, join, install, subscribe, signup, attach | delete, cancel, leave, uninstall, unsubscribe, detach
login | logout
send, upload, export, give, lend, deposit, outgoing | get, download, import, take, borrow, withdraw, incoming
before, earlier, prior | after, later, following
maximum, max, most, highest, longest, biggest, at-most | minimum, min, least, lowest, shortest, smallest
more, above, exceed | less, fewer, below, under
fast, early, soon | slow, late
good, safe, healthy, benefit, pros, strength | bad, unsafe, unhealthy, dangerous, harmful, drawback, cons, weakness
cheap, cheapest | expensive, costly
hot, warm | cold, cool
win | lose
love, like | hate, dislike
accept, approve | reject, decline, deny
public | private
internal, inside, indoor, indoors | external, outside, outdoor, outdoors
domestic, local | international, abroad, overseas, foreign
old, older | new, newer, newest, latest
young, younger | elder, elderly
first | last
left | right
male, man, boy, husband, father, son, brother | female, woman, girl, wife, mother, daughter, sister
boyfriend | girlfriend
adult | child, minor, junior, baby
full, whole | partial, half, part
free | paid
online | offline, in-store
single, one-way | return, double, round-trip
permanent, permanently | temporary, temporarily
legal, lawful | illegal, unlawful
encrypt, compress, encode | decrypt, decompress, decode
employer, landlord, seller, teacher, doctor, lender | employee, tenant, buyer, student, patient, borrower
north | south
east | west
ascending | descending
horizontal | vertical
input | output
positive | negative
manual, manually | automatic, automatically
required, mandatory, compulsory | optional
monthly | yearly, annual, annually, weekly, daily
import | export
personal | corporate, company
my, mine, myself | his, hers, their, theirs
weekday, weekdays | weekend, weekends
day, daytime | night, overnight
morning | evening
""",
        _MEANING,
        stem,
    ),
    scope=named(
        """
all: all every each entire whole everyone everybody everything
only: only solely exclusively
besides: except besides excluding apart
always: always
another: another else other others different
less: less fewer least
again: again twice
previous: previous former
next: next
both: both
instead: instead rather
until: until till by-then
since: since
during: during while
for-now: temporarily temporary
""",
        stem,
    ),
    moments=words("today tonight tomorrow yesterday now currently nowadays", stem),
    numbers=valued(
        "zero:0 two:2 three:3 four:4 five:5 six:6 seven:7 eight:8 nine:9 ten:10 eleven:11 twelve:12 "
        "thirteen:13 fourteen:14 fifteen:15 sixteen:16 seventeen:17 eighteen:18 nineteen:19 twenty:20 "
        "thirty:30 forty:40 fifty:50 sixty:60 seventy:70 eighty:80 ninety:90 hundred:100 thousand:1000 "
        "million:1000000 billion:1000000000 dozen:12 double:2x triple:3x twice:2x second:2nd third:3rd "
        "fourth:4th fifth:5th half:1/2 quarter:1/4 couple:2 1st:1st 2nd:2nd 3rd:3rd",
        stem,
    ),
    units=named(
        """
s: second seconds sec secs
min: minute minutes mins
h: hour hours hr hrs
d: day days
wk: week weeks
mo: month months
y: year years yr yrs
km: km kilometer kilometers kilometre kilometres kms
mi: mile miles
m: meter meters metre metres
cm: cm centimeter centimeters centimetre centimetres
ft: foot feet ft
in: inch inches
kg: kg kgs kilo kilos kilogram kilograms
g: gram grams
lb: lb lbs pound pounds
oz: ounce ounces
l: liter liters litre litres
ml: ml milliliter milliliters
gal: gallon gallons
usd: dollar dollars usd bucks $
eur: euro euros eur €
gbp: gbp £
inr: rupee rupees rs inr lakh lakhs ₹
yen: yen jpy ¥
%: percent % percentage
kb: kb
mb: mb megabyte megabytes
gb: gb gig gigabyte gigabytes
tb: tb terabyte terabytes
c: celsius
f: fahrenheit
""",
        stem,
    ),
    dates=named(
        """
jan: january jan
feb: february feb
mar: march
apr: april apr
may: may-month
jun: june
jul: july
aug: august aug
sep: september sept sep
oct: october oct
nov: november nov
dec: december dec
mon: monday mondays
tue: tuesday tuesdays
wed: wednesday wednesdays
thu: thursday thursdays
fri: friday fridays
sat: saturday saturdays
sun: sunday sundays
xmas: christmas xmas
spring: spring
summer: summer
autumn: autumn fall-season
winter: winter
weekend: weekend weekends
morning: morning mornings
noon: noon midday
afternoon: afternoon
evening: evening evenings
night: night nights
midnight: midnight
""",
        stem,
    ),
    joints={
        stem(word): roles
        for word, roles in {
            "to": ("source", "goal"),
            "into": ("source", "goal"),
            "from": (None, "source"),
            "than": ("more", "less"),
            "over": ("more", "less"),
            "before": ("earlier", "later"),
            "after": ("later", "earlier"),
        }.items()
    },
    asker=frozenset({"me", "us", "myself", "ourselves"}),
    of=frozenset(),
    role=no_role,
    asks=patterns(
        r"""
must: ^(?:do|does|did|will|would) (?:\w+ ){1,2}(?:need|have to)\b|^must\b|^(?:is|are) (?:\w+ ){1,5}(?:required|necessary
|mandatory|compulsory|obligatory)\b
yesno: ^(?:please |so |but |hi |hello |hey )*(?:is|are|am|was|were|do|does|did|can|could|will|would|should|shall
|has|have|had|may|must|isn't|aren't|don't|doesn't|can't|won't)\b(?! (?:you|u|anyone|anybody|someone|somebody|we
|i) (?:please |kindly |also |possibly )*(?:tell|explain|show|help|give|know|suggest|recommend|have any|ask
|describe|walk|guide|advise|let))(?! there (?:a|an|any|some)(?: \w+)? ways?)
howlong: how (?:long|fast|quickly|soon)|what(?:'s| is) the (?:duration|processing time|turnaround)
|how many (?:seconds|minutes|hours|days|weeks|months|years)
howoften: how (?:often|frequently)|how many times
quantity: how (?:much|many|big|large|high|low|expensive|heavy|tall|far|deep|wide|old)|what(?:'s| is| are| does
| do| will| would)? (?:\w+ ){0,2}(?:cost|price|fee|amount|number of|limit|maximum|minimum|salary|size|height
|weight|age|distance)s?\b|\b(?:costs?|price) of
when: \bwhen\b|what (?:time|date|day|year|month)\b|what(?:'s| is| are) the (?:opening hours|deadline|date|due date)
where: \bwhere\b|what (?:place|location)s?\b
who: \bwho\b|\bwhom\b|\bwhose\b|\bwho's\b
why: \bwhy\b|what(?:'s| is| are| was| were) the (?:\w+ )?(?:reason|cause)s?|how come|for what reason
|\breasons? (?:why|for)|what (?:causes|makes)\b
how: \bhow\b|(?:what|which)(?:'s| is| are)? (?:the |some |a )?(?:\w+ )?(?:ways?|steps|methods?|process|procedure
|tips)\b|\bways? to\b|\bsteps to\b
which: \bwhich\b
what: \bwhat\b|\bwhat's\b
"""
    ),
)
