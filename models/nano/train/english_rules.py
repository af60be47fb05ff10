"""The rules of the English that nano is taught, from sentence to word; `grammar` reads them.

One rule a line: `SYMBOL = words` gives one of the words, `SYMBOL : a | b` one of the alternatives; a number before an
alternative is its weight. A symbol on several lines has all their alternatives; what is no symbol is a word. NUMBER and
CODE are made in `grammar`. Words are chosen so that none is rare and no two sound alike.
"""

RULES = """
S : 14 PAST | 8 PRESENT | 5 FUTURE | 7 BEING | 5 THERE | 8 QUESTION | 6 COMMAND | 6 NUMBERS | 4 SPELLED | 4 TIMED
S : 3 TALK | 2 PAST JOIN PAST | PRESENT JOIN PRESENT | 2 WHEN PAST PAST | 2 PAST because BEING | if PRESENT FUTURE
PAST : 3 WHO VTP OBJECT END | 2 WHO VPP ONE END | 3 WHO VIP PLACE END | 2 WHO VIP HOW | HOW WHO VTP OBJECT
PAST : 2 WHEN_P WHO VTP OBJECT | WHO DIDNT VT OBJECT | WHO DIDNT VI PLACE | WHO gave ONE OBJECT | 2 WHO VIP TOGETHER
PAST : WHO said that WHO VTP OBJECT | WHO thought that BEING | WHO told ONE a STORY | WHO heard a NOISE PLACE
PRESENT : 6 SHE VTS OBJECT | 4 SHE VIS PLACE | 2 PL VT OBJECT
PRESENT : 2 PL VI EVERY | 2 SHE ALWAYS VTS OBJECT | 3 PL ALWAYS VI PLACE
PRESENT : SHE has MANY | PL have MANY | 2 SHE never VIS HOW | PL MODAL VT OBJECT | 5 AM VING PLACE | 3 AM VING TODAY
PRESENT : IT_IS VINGW TODAY | i think that BEING | i hope that FUTURE | i believe ONE | it takes SMALL minutes
PRESENT : WHO VTP much money
FUTURE : 2 WHO will VT OBJECT SOON | 2 WHO MODAL VI PLACE | WHO MODAL VP ONE SOON | WHO must not VT OBJECT
FUTURE : WHO may VI SOON
BEING : 3 DET THING is VERY ADJ | 2 DET THING was VERY ADJ | 4 DET PERSON is VERY FEELING | DET FOOD is FOODADJ
BEING : ADJ ANIMALS are VERY FEELING | DETP PLURAL are COLOR | DETP PLURAL were VERY ADJ | 2 DET THING is COLOR
BEING : DET THING is NEAR DET THING | 2 DET THING is ADJER than DET THING | 9 BODY_IS | 3 i am VERY FEELING
BEING : WHO was not FEELING | DET ANIMAL is as ADJ as DET ANIMAL | DET PERSON is a JOB | 2 that was a ADJ IDEA
BEING : LAND is ADJ | this is DET THING | DET WEATHER is VERY ADJ
BEING : 2 DET WEATHER was VERY ADJ | DET sky is COLOR | DET world is ADJ | life is ADJ
BEING : DET WEATHER came PLACE | DET weather is ADJ | 2 DET IDEA was VERY ADJ
THERE : there is a ADJ THING NEAR DET THING | there is a ANIMAL PLACE | 2 there are NUM PLURAL PLACE
THERE : 3 there was no MASS | 2 there were NUM ANIMALS PLACE | there are MANY | there is MUCH MASS PLACE
THERE : here is DET THING | here are DETP PLURAL
QUESTION : where is DET THING | where are DETP PLURAL | 2 why did WHO VT OBJECT | when will WHO VI PLACE
QUESTION : which THING is ADJER | 4 what is DET ABSTRACT | who VTP OBJECT | how many PLURAL are there PLACE
QUESTION : how much MASS do you need | is DET THING ADJ | did WHO VT OBJECT YESTERDAY | do you VT OBJECT
QUESTION : does SHE VT OBJECT | MODAL you VT OBJECT please | are you FEELING | can WHO VI PLACE
QUESTION : what color is DET THING | where did WHO VI | are there any PLURAL PLACE | have you VTP OBJECT
COMMAND : 2 please VT OBJECT | 2 VT OBJECT END | VI PLACE | VT OBJECT HOW | do not VT OBJECT | VP ONE please | VI HOW
COMMAND : please VI SOON | turn LEFT at DET SPOT | 2 go DIRECTION DET SPOT | open DET THING with DET THING
COMMAND : put DET THING NEAR DET THING | look at DET ADJ THING | play DET SONG again | VT OBJECT and VT OBJECT
NUMBERS : 2 DET NUMERAL is NUMBER | 3 NUMBER PLURAL | WHO VTP NUMBER PLURAL | it was DET ORDINAL THING
NUMBERS : WHO found NUMBER coins | NUMBER | WHO counted NUMBER ANIMALS | that is NUMBER coins | room NUMBER please
NUMBERS : in YEAR WHO VTP OBJECT | page NUMBER | i was born in YEAR | NUMBER and NUMBER | DET PERSON is SMALL years old
NUMBERS : DET PLACE_N is NUMBER miles away | number NUMBER
SPELLED : 4 DET CODE_N is CODE | CODE | spell CODE please | DET ABSTRACT begins with LETTER
SPELLED : letter LETTER and letter LETTER
TIMED : 2 it is CLOCK | DET SHOW starts at CLOCK | WHO VIP at CLOCK | meet ONE at CLOCK PLACE | DET CAR leaves at CLOCK
TIMED : DET SHOW is on DAY | meet me on DAY PARTDAY | WHO VIP on DAY PARTDAY | DAY DATE | DET SHOW is in MONTH
TIMED : DET FOOD is ready | DET SHOW was VERY late | DET SPOT is in SMALL weeks | 2 MONTH is a ADJ month
TIMED : today is DAY MONTH ORDINAL | from DAY until DAY | WHO waited SMALL UNITS | it was a ADJ PARTDAY in MONTH
TIMED : before DAY
TALK : good PARTDAY | thank you | yes please | no thank you | yes WHO MODAL | good PARTDAY DET PERSON
TALK : hello DET PERSON | yes BEING | no BEING | perhaps FUTURE | excuse me where is DET SPOT | i am sorry | so what
TALK : welcome home | of course | hello PERSON
DATE : MONTH ORDINAL
WHO : 5 PRON | 4 DET PERSON | DET ADJP PERSON | DET ANIMAL | 2 DETP PEOPLE | DET PERSON and DET PERSON | EVERYONE
SHE : 3 SHE_P | 3 DET PERSON | DET ADJP PERSON | DET ANIMAL | EVERYONE
PL : 3 PL_P | DETP PEOPLE | ADJP PEOPLE | ANIMALS | MANYP PEOPLE
ONE : 3 ONE_P | 3 DET PERSON | DET ADJP PERSON | EVERYONE | DETP PEOPLE
OBJECT : 6 DET THING | 4 DET ADJ THING | 2 DET COLOR THING | 3 DET FOOD | 2 DET ANIMAL | 4 SOME MASS | DETP PLURAL
OBJECT : 2 NUM PLURAL | it | them | DETP ADJ PLURAL | DET FOODADJ FOOD | DET THING and DET THING | SOMETHING
OBJECT : DET MATTER THING
END : 5 | 3 PLACE | 2 WHEN_P | with DET THING | with ONE | HOW
PLACE : 4 IN DET PLACE_N | 3 NEAR DET SPOT | DIRECTION DET SPOT | 3 NEAR DET THING | in DET ADJ PLACE_N | at home
PLACE : NOWHERE | in LAND
DIRECTION : through | past | around | toward | across | along | by
NUM : 3 SMALL | MANYP | NUMBER
MANY : MANYP PLURAL | MANYP ANIMALS | MANYP ADJ PLURAL
MUCH : much | SOME | enough | more
CLOCK : 2 HOURW MINUTES | half past HOURW | quarter past HOURW | HOURW o clock | HOURW HALFDAY | HOURW MINUTES HALFDAY
HALFDAY : a m | p m
YEAR : nineteen TENS SMALL_D | twenty TEEN | two thousand and SMALL_D | eighteen TENS | nineteen TENS
WHEN_P : 3 YESTERDAY | on DAY | in MONTH | last WEEKW | 2 SMALL UNITS ago | at CLOCK | during DET SEASON
SOON : 1 | 3 SOONW | on DAY | at CLOCK | 2 in SMALL UNITS | next WEEKW | this PARTDAY | without ONE | until DAY
EVERY : every WEEKW | every PARTDAY | PLACE | in MONTH
DIDNT : did not | could not | would not | should not
AM : i am | SHE is | PL are | WHO was
BODY_IS : 5 DET BODY is ADJB | DET BODY was COLOR | both BODIES are ADJB | DETP BODIES are ADJB | WHO cut DET BODY
BODY_IS : WHO touched DET BODY
IT_IS : it is | it was
TOGETHER : with ONE | without DET THING | like a ANIMAL | HOW
VERY : 4 | VERYW
PERSON : 2 FAMILY | JOB | CHILD
PRON = i you he she we they
SHE_P = he she it
PL_P = i you we they
ONE_P = me you him her us them
EVERYONE = everyone someone everybody
FAMILY = mother father sister brother daughter aunt uncle cousin grandmother grandfather wife husband friend
JOB = teacher doctor nurse farmer driver king queen student guest captain singer baker officer lady artist
CHILD = baby boy girl man woman child
PEOPLE = men women children friends people boys girls students
ANIMAL = dog cat bird horse cow pig sheep goat chicken duck lion tiger bear elephant monkey rabbit mouse frog fox wolf
ANIMAL = turtle deer
ANIMALS = dogs cats birds horses cows sheep ducks fish monkeys rabbits wolves
FOOD = bread butter cheese apple banana pear lemon potato tomato onion soup salad egg cake sandwich pizza dinner lunch
FOOD = breakfast fish
MASS = milk water coffee juice rice sugar salt pepper honey chocolate money paper snow sand glass time food ice rain
PLURAL = eggs apples berries books letters pens cups plates flowers trees keys shoes chairs pictures tickets boxes
PLURAL = bottles cars boats stones windows questions songs games lamps clouds stars potatoes coins
THING = table chair bed door window book letter pen pencil phone computer camera clock watch lamp cup bottle plate
THING = spoon knife fork box bag key hat coat shirt dress ring car bus train bicycle boat ship plane truck ball toy
THING = picture mirror umbrella ticket newspaper map stone flower tree leaf bell bucket machine piano guitar violin
THING = drum radio engine desk roof wall glass
PLACE_N = house garden kitchen bedroom office park street city town village market shop school station airport hospital
PLACE_N = church library museum hotel restaurant forest field castle bank corner room valley
SPOT = bridge river lake beach mountain farm tower road school station bank church hospital island river
LAND = france england japan
NOWHERE = outside inside there here home everywhere
IN = in at near behind from outside inside
NEAR = near behind under on above beside
ABSTRACT = name word answer question problem lesson price plan story song dream language reason secret color
STORY = story secret joke
NOISE = noise voice song bird
SHOW = show game lesson party movie meeting holiday
SONG = song music music game piano violin
CAR = bus train plane ship boat
IDEA = idea job day year dream plan war
NUMERAL = number price answer
CODE_N = code name word plate
ORDINAL = first second third fifth last next
UNITS = minutes hours days weeks months years seconds days
DAY = monday tuesday wednesday thursday friday saturday sunday
MONTH = january february march april may june july august september october november december
PARTDAY = morning afternoon evening night
SEASON = summer winter spring autumn night week storm war
WEEKW = week month year summer winter spring autumn night day
YESTERDAY = yesterday today
TODAY = today now again outside tomorrow tonight later
SOONW = soon today tomorrow tonight later now again once twice
WHEN = when while before after until
JOIN = and but or so because while
MANYP = many some few several most
SOME = some more enough
SOMETHING = something nothing everything anything
ALWAYS = always never often sometimes usually still also
MODAL = can could will would should must may
VERYW = very so really quite
ADJ = good bad big small little large long short tall high low old young new beautiful pretty ugly strange famous
ADJ = important different wonderful dangerous special simple heavy light dark bright dirty clean wet dry cheap round
ADJ = wide broken lost empty full fresh easy
ADJP = young old tall rich famous kind brave nice funny busy lazy proud friendly sad
FEELING = happy sad angry tired hungry ill sick busy ready early late safe alone quiet proud afraid free careful
FOODADJ = hot cold warm sweet sour fresh soft
ADJB = cold warm dry wet dirty strong heavy soft
ADJER = bigger smaller better older faster
COLOR = red blue green yellow black white brown gray pink orange purple
MATTER = wooden metal broken paper closed
BODY = hand head face hair ear nose mouth arm leg foot back knee finger heart neck
BODIES = hands feet ears
HOW = slowly quickly quietly loudly carefully well together alone away again outside easily suddenly gently early
LEFT = left right
VT = find bring sell make take get keep hold lose open clean wash paint build break cut carry catch drop move push pull
VT = fill watch like love want need remember forget count draw hide share show send touch fix choose eat drink cook
VTP = found brought bought sold made took got kept held lost opened closed cleaned washed painted built broke carried
VTP = dropped moved pushed pulled filled watched liked loved wanted needed remembered forgot drew hid shared showed
VTP = sent touched used fixed chose drank cooked had cut
VTS = likes loves wants needs has makes takes keeps opens watches carries cooks sells finds
VP = call help follow visit ask meet thank
VPP = called helped followed visited asked met thanked
VI = go come run walk sleep sit stand wait work play sing dance laugh cry smile swim travel arrive leave stay start
VI = stop fall jump climb fly talk speak listen return rest
VIP = went came ran walked slept sat stood waited worked played sang danced laughed cried smiled swam traveled arrived
VIP = left stayed started stopped fell jumped climbed talked spoke listened returned lived looked
VIS = goes comes runs walks sleeps sits works plays sings
VING = going coming running walking sleeping sitting standing waiting working playing singing dancing eating drinking
VING = cooking looking talking reading swimming
VINGW = raining snowing
WEATHER = sun moon rain wind storm
DET = the the the the the the my my your his her our this that a a a a a a a another every each
DETP = the the the my your his her our these those all both other such
LETTER = b c d e f g h i j k l m n o p q s t v w x z
SMALL_D = one two three four five six seven eight nine
SMALL = two three four five six seven eight nine ten eleven twelve
HOURW = one two three four five six seven eight nine ten eleven twelve
TEEN = ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen
TENS = twenty thirty forty fifty sixty seventy eighty ninety
MINUTES = ten fifteen twenty thirty forty fifty
"""
