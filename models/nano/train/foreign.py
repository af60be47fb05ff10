"""Everyday sentences in the seven other languages of nano, 3 to 10 words, for telling languages apart.

Comes in: a random generator, a language code, the split. Goes out: one sentence as its synthesizers read it: Chinese in
hanzi, Japanese in kana, Korean in hangul. The split is by content, by its CRC-32. Phrases carry their own articles
and particles, so that each order of phrases is a sentence; each language has over 150 content words.
"""

from __future__ import annotations

import random
import zlib
from functools import cache

# order: the phrases of a sentence by the letters of their tables
# w who, d does something, o to what, p where, a acts, t when, h how
_ORDERS = {
    "zh": "wtdo wtpdo twdo wpdo wtpa twha wha twpa tdo wdowdo",
    "de": "wdo wdop tdwo tdwop wap waht tawp tawh wdot awp dwop",
    "es": "wdo wdop twdo twdop wap waht twap wha wdoh odwp twah",
    "ko": "wod wpod twod twpod wpa wha twpa twha wpha pwod",
    "fr": "wdo wdop twdo twdop wap waht twap wha wdoh twah",
    "ja": "wod wpod twod twpod wpa wha twpa twha wpha pwod",
    "it": "wdo wdop twdo twdop wap waht twap wha wdoh twah",
}
_GLUE = {"zh": ""}
_TABLES = {
    "zh": """
w 我/你/他/她/我们/他们/我妈妈/他爸爸/我哥哥/她妹妹/老师/医生/学生/司机/这个孩子/那个女人/我的朋友/邻居/老板/爷爷/奶奶
w 警察/服务员/叔叔/小王/经理/护士/厨师
d 买了/喜欢/想要/看见了/找到了/需要/卖了/忘了/拿着/准备了/打开了/送来了/讨论/带着/换了/借了/检查/得到了
o 一本书/一杯茶/苹果/新衣服/两张票/自行车/手机/早饭/米饭/牛奶/面条/一封信/那把椅子/雨伞/照片/报纸/蛋糕/三只猫/一条鱼
o 红色的花/鸡蛋/电脑/钥匙/水果/蔬菜/礼物/钱包/香蕉/咖啡/旧房子/地图/白色的汽车/一条狗/桌子/音乐/电影/大帽子/手表
o 中文词典/药
p 在学校/在家里/在公园/在火车站/在北京/在商店/在河边/在办公室/在图书馆/在医院/在山上/在饭店/在上海/在机场/在城市里
p 在厨房/在银行/在海边/在教室/在门口
t 今天/明天/昨天/早上/晚上/下午/星期三/去年/现在/每天/周末/冬天/夏天/九点/以前/上个月/春天/中午/明年
a 睡觉/跑步/唱歌/跳舞/工作/等车/休息/游泳/学习/散步/说话/吃饭/喝水/笑了/哭了/洗手/做饭/聊天/写字/下棋/开会/旅行
h 慢慢地/高兴地/很快地/安静地/认真地/一起/经常/总是/也许/努力地/偷偷地/已经/忽然/大声地
""",
    "de": """
w der Mann/die Frau/das Kind/meine Mutter/sein Vater/ihre Schwester/unser Lehrer/der Arzt/die Köchin/ein Nachbar
w mein Freund/der alte Hund/die Katze/niemand/jemand/der Chef/die Tante/das Mädchen/der Junge/ein Polizist/unsere Oma
w der Bäcker/er/sie/die Studentin/der Fahrer/ein Gast/Herr Schmidt/der Verkäufer
d kauft/sieht/sucht/findet/bringt/verkauft/braucht/vergisst/holt/trägt/öffnet/zeigt/verliert/malt/reinigt/nimmt
d schenkt/bestellt/wäscht/versteckt/repariert/möchte/bezahlt
o das Buch/einen Apfel/die Zeitung/das Brot/ein Glas Wasser/den Schlüssel/die Tasche/eine Suppe/den Kaffee/zwei Karten
o die Blumen/das Auto/einen Brief/die Schuhe/das Geschenk/den Regenschirm/ein Stück Kuchen/die Uhr/das Fahrrad
o drei Eier/die Milch/den Stuhl/das Fenster/eine Lampe/den roten Hut/die schwarze Jacke/ein Bild/den Tisch/die Flasche
o das Messer/ein schönes Kleid/die Kartoffeln/den Käse/eine Brille/das Papier/die Gabel/den Ball/frisches Obst
o neue Möbel/einen Computer
p im Garten/in der Schule/auf dem Markt/am Bahnhof/in Berlin/im Büro/vor dem Haus/an der Brücke/im Wald/am See
p in der Küche/hinter der Kirche/im Krankenhaus/auf der Straße/neben dem Rathaus/in der Stadt/im Zimmer/bei der Bank
p am Flughafen/unter dem Baum
a schläft/singt/wartet/arbeitet/tanzt/lacht/spielt/läuft/sitzt/weint/schwimmt/wohnt/kocht/liest/steht/träumt/spricht
a bleibt/springt/lernt
t heute/morgen/gestern/am Montag/im Winter/jeden Abend/um acht Uhr/manchmal/nach der Arbeit/am Wochenende
t früh am Morgen/im Juli/nächste Woche/oft/immer/seit drei Tagen/vor dem Essen/selten
h langsam/leise/gern/allein/sehr laut/schnell/mit den Kindern/ohne Pause/vorsichtig/fröhlich/gut/wieder
""",
    "es": """
w el hombre/la mujer/el niño/mi madre/su padre/nuestra abuela/el profesor/la doctora/un amigo/la vecina/mi hermano
w el perro/la gata/nadie/alguien/el jefe/mi tía/la chica/un policía/el panadero/la enfermera/él/ella/el conductor
w la estudiante/un cliente/el señor García/la camarera/el cocinero
d compra/mira/busca/encuentra/trae/vende/necesita/olvida/lleva/quiere/abre/enseña/pierde/pinta/limpia/toma/regala/pide
d lava/esconde/arregla/prepara/paga
o el libro/una manzana/el periódico/el pan/un vaso de agua/la llave/la bolsa/una sopa/el café/dos billetes/las flores
o el coche/una carta/los zapatos/el regalo/el paraguas/un trozo de queso/el reloj/la bicicleta/tres huevos/la leche
o la silla/la ventana/una lámpara/el sombrero rojo/la chaqueta negra/un cuadro/la mesa/la botella/el cuchillo
o un vestido bonito/las patatas/el arroz/unas gafas/el papel/la cuchara/la pelota/la fruta fresca/muebles nuevos
o el ordenador
p en el jardín/en la escuela/en el mercado/en la estación/en Madrid/en la oficina/delante de la casa/junto al puente
p en el bosque/cerca del lago/en la cocina/detrás de la iglesia/en el hospital/en la calle/al lado del ayuntamiento
p en la ciudad/en la habitación/en el banco/en el aeropuerto/debajo del árbol
a duerme/canta/espera/trabaja/baila/ríe/juega/corre/descansa/llora/nada/vive/cocina/lee/estudia/sueña/habla/camina
a salta/viaja
t hoy/mañana/ayer/el lunes/en invierno/cada noche/a las ocho/a veces/después del trabajo/el fin de semana
t por la mañana/en julio/la próxima semana/siempre/todos los días/antes de comer/el jueves/ahora
h despacio/en silencio/con gusto/sin prisa/muy fuerte/rápidamente/con los niños/sin parar/con cuidado/alegremente/bien
h otra vez
""",
    "ko": """
w 남자가/여자가/아이가/어머니가/아버지가/우리 할머니가/선생님이/의사가/요리사가/이웃이/친구가/강아지가/고양이가/동생이
w 누나가/사장님이/이모가/소녀가/소년이/경찰이/간호사가/형이/학생이/기사님이/손님이/김 씨가/삼촌이/직원이
d 샀어요/봤어요/찾았어요/가져왔어요/팔았어요/좋아해요/잊었어요/들었어요/열었어요/보여줬어요/잃어버렸어요/그렸어요
d 닦았어요/받았어요/골랐어요/주문했어요/씻었어요/숨겼어요/고쳤어요/원해요/빌렸어요/준비했어요
o 책을/사과를/신문을/빵을/물 한 잔을/열쇠를/가방을/국을/커피를/표 두 장을/꽃을/자동차를/편지를/신발을/선물을/우산을
o 케이크를/시계를/자전거를/달걀 세 개를/우유를/의자를/창문을/전등을/빨간 모자를/검은 옷을/그림을/책상을/병을/칼을
o 예쁜 치마를/감자를/김치를/안경을/종이를/숟가락을/공을/과일을/새 컴퓨터를/사진을
p 정원에서/학교에서/시장에서/기차역에서/서울에서/사무실에서/집 앞에서/다리 옆에서/숲에서/호수에서/부엌에서/교회 뒤에서
p 병원에서/거리에서/도서관에서/도시에서/방에서/은행에서/공항에서/나무 아래에서/바닷가에서
a 자요/노래해요/기다려요/일해요/춤춰요/웃어요/놀아요/달려요/앉아요/울어요/수영해요/살아요/요리해요/읽어요/공부해요
a 쉬어요/말해요/걸어요/뛰어요/여행해요
t 오늘/내일/어제/월요일에/겨울에/매일 저녁/여덟 시에/가끔/수업 후에/주말에/아침 일찍/칠월에/다음 주에/자주/항상
t 사흘 동안/점심 전에/지금/작년에
h 천천히/조용히/기쁘게/혼자/아주 크게/빨리/아이들과/쉬지 않고/조심해서/즐겁게/잘/다시/함께/열심히
""",
    "fr": """
w le monsieur/la femme/mon enfant/ma mère/son père/notre grand-mère/le professeur/le médecin/un ami/la voisine
w mon frère/le chien/le chat noir/mon voisin/quelqu'un/le patron/ma tante/la fille/un policier/le boulanger
w cette infirmière/il/elle/le chauffeur/son étudiante/un client/monsieur Dupont/la serveuse/le cuisinier
d achète/regarde/cherche/trouve/apporte/vend/demande/oublie/porte/veut/ouvre/montre/perd/peint/nettoie/prend/choisit
d commande/lave/cache/répare/prépare/paie
o le livre/une pomme/le journal/du pain/un verre d'eau/la clé/le sac/une soupe/le café/deux billets/les fleurs
o la voiture/une lettre/les chaussures/le cadeau/le parapluie/un morceau de fromage/la montre/le vélo/trois œufs
o du lait/la chaise/la fenêtre/une lampe/le chapeau rouge/la veste grise/un tableau/la table/la bouteille/le couteau
o une jolie robe/les légumes/le riz/ses lunettes/le papier/la cuillère/le ballon/des fruits frais/des meubles neufs
o son ordinateur
p dans le jardin/à l'école/au marché/à la gare/à Paris/au bureau/devant la maison/près du pont/dans la forêt
p au bord du lac/dans la cuisine/derrière l'église/à l'hôpital/dans la rue/à côté de la mairie/en ville
p dans la chambre/à la banque/à l'aéroport/sous un arbre
a dort/chante/attend/travaille/danse/rit/joue/court/se repose/pleure/nage/habite/cuisine/lit/étudie/rêve/parle/marche
a saute/voyage
t aujourd'hui/demain/hier/le lundi/en hiver/chaque soir/à huit heures/parfois/après le travail/pendant le week-end
t tôt le matin/en juillet/la semaine prochaine/toujours/tous les jours/avant le dîner/le jeudi/maintenant
h lentement/en silence/avec plaisir/sans bruit/très fort/rapidement/avec les enfants/sans arrêt/prudemment/joyeusement
h très bien/encore une fois
""",
    "ja": """
w おとこのひとが/おんなのひとが/こどもが/ははが/ちちが/おばあさんは/せんせいは/いしゃが/りょうりにんが/となりのひとが
w ともだちが/いぬが/ねこが/いもうとが/あねは/しゃちょうが/おばさんは/わたしは/かれは/けいさつかんが/かんごしさんが
w あには/がくせいが/うんてんしゅが/おきゃくさんが/たなかさんは/おじさんが/かのじょは
d かいました/みました/さがします/みつけました/もってきます/うりました/すきです/わすれました/つかいます/あけました
d みせました/なくしました/かきました/ふきました/もらいました/えらびます/たのみました/あらいました/かくしました
d なおしました/かります/じゅんびします
o ほんを/りんごを/しんぶんを/パンを/みずを/かぎを/かばんを/スープを/コーヒーを/きっぷを/はなを/くるまを/てがみを
o くつを/プレゼントを/かさを/ケーキを/とけいを/じてんしゃを/たまごを/ぎゅうにゅうを/いすを/まどを/ランプを
o あかいぼうしを/くろいふくを/えを/つくえを/びんを/ナイフを/きれいなドレスを/じゃがいもを/おちゃを/めがねを/かみを
o スプーンを/ボールを/くだものを/あたらしいパソコンを/しゃしんを
p にわで/がっこうで/いちばで/えきで/とうきょうで/かいしゃで/いえのまえで/はしのそばで/もりで/みずうみで/だいどころで
p おてらのうしろで/びょういんで/みちで/としょかんで/まちで/へやで/ぎんこうで/くうこうで/きのしたで/うみで
a ねます/うたいます/まっています/はたらきます/おどります/わらいました/あそびます/はしります/すわります/なきました
a およぎます/くらしています/りょうりします/よみます/べんきょうします/やすみます/はなします/あるきます/とびました
a たびをします
t きょう/あした/きのう/げつようびに/ふゆに/まいばん/はちじに/ときどき/しごとのあと/しゅうまつに/あさはやく/しちがつに
t らいしゅう/よく/いつも/みっかかん/ごはんのまえに/いま/きょねん
h ゆっくり/しずかに/よろこんで/ひとりで/おおきなこえで/はやく/こどもたちと/やすまずに/きをつけて/たのしく/じょうずに
h もういちど/いっしょに/いっしょうけんめい
""",
    "it": """
w l'uomo/la donna/il bambino/mia madre/suo padre/nostra nonna/il professore/la dottoressa/un amico/la vicina
w mio fratello/il cane/la gatta/nessuno/qualcuno/il capo/mia zia/la ragazza/un poliziotto/il panettiere/l'infermiera
w lui/lei/il conducente/la studentessa/un cliente/il signor Rossi/la cameriera/il cuoco
d compra/guarda/cerca/trova/porta/vende/chiede/dimentica/prende/vuole/apre/mostra/perde/dipinge/pulisce/sceglie/regala
d ordina/lava/nasconde/aggiusta/prepara/paga
o il libro/una mela/il giornale/il pane/un bicchiere d'acqua/la chiave/la borsa/una zuppa/il caffè/due biglietti
o i fiori/la macchina/una lettera/le scarpe/il regalo/l'ombrello/un pezzo di formaggio/l'orologio/la bicicletta
o tre uova/il latte/la sedia/la finestra/una lampada/il cappello rosso/la giacca nera/un quadro/il tavolo/la bottiglia
o il coltello/un bel vestito/le patate/il riso/gli occhiali/la carta/il cucchiaio/la palla/la frutta fresca
o mobili nuovi/il computer
p nel giardino/a scuola/al mercato/alla stazione/a Roma/in ufficio/davanti alla casa/vicino al ponte/nel bosco
p accanto al lago/in cucina/dietro la chiesa/all'ospedale/per strada/di fronte al municipio/in città/nella camera
p in banca/all'aeroporto/sotto l'albero
a dorme/canta/aspetta/lavora/balla/ride/gioca/corre/riposa/piange/nuota/abita/cucina/legge/studia/sogna/parla/cammina
a salta/viaggia
t oggi/domani/ieri/il lunedì/d'inverno/ogni sera/alle otto/a volte/dopo il lavoro/nel fine settimana/di mattina presto
t a luglio/la settimana prossima/sempre/tutti i giorni/prima di cena/il giovedì/adesso
h lentamente/in silenzio/con piacere/senza fretta/molto forte/velocemente/con i bambini/senza sosta/con cura
h allegramente/molto bene/di nuovo
""",
}
LANGUAGES = tuple(_TABLES)
TEST_PART = 50


def split_of(sentence: str) -> str:
    """Say which split a text belongs to, by its content alone."""
    return "test" if zlib.crc32(sentence.encode()) % TEST_PART == 0 else "train"


def foreign(rng: random.Random, language: str, *, split: str) -> str:
    """Make one sentence of `split`, "train" or "test", in one of `LANGUAGES`."""
    if split not in {"train", "test"}:
        raise ValueError(f'split is "train" or "test", not {split!r}')
    if language not in _TABLES:
        raise ValueError(f"no language {language!r}: one of {', '.join(LANGUAGES)}")
    table = _table(language)
    while True:
        phrases = [rng.choice(table[letter]) for letter in rng.choice(_ORDERS[language].split())]
        sentence = _GLUE.get(language, " ").join(phrases)
        words = len(phrases) + 1 if language in _GLUE else len(sentence.split())
        if 3 <= words <= 10 and split_of(sentence) == split:
            return sentence


@cache
def _table(language: str) -> dict[str, tuple[str, ...]]:
    table: dict[str, tuple[str, ...]] = {}
    for line in _TABLES[language].strip().splitlines():
        letter, phrases = line.split(" ", 1)
        table[letter] = table.get(letter, ()) + tuple(phrases.split("/"))
    return table


def content_words(language: str) -> set[str]:
    """Give all words (in Chinese: phrases) of the tables of a language."""
    glue = language not in _GLUE
    phrases = [phrase for group in _table(language).values() for phrase in group]
    return {word for phrase in phrases for word in (phrase.split() if glue else [phrase])}
